"""``nnUNetv2_train DATASET 2d FOLD -tr nnUNetTrainerDANIE_S``."""

from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe


class nnUNetTrainerDANIE_S(nnUNetTrainerRecipe):
    """Trains DANIE, by default DANIE-S with the paper's recipe."""

    default_preset = "danie-s"
