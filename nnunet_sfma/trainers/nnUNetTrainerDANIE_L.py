"""``nnUNetv2_train DATASET 2d FOLD -tr nnUNetTrainerDANIE_L``."""

from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe


class nnUNetTrainerDANIE_L(nnUNetTrainerRecipe):
    """Trains DANIE, by default DANIE-L with the paper's recipe."""

    default_preset = "danie-l"
