"""``nnUNetv2_train DATASET 2d FOLD -tr nnUNetTrainerDANIE``."""

from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe


class nnUNetTrainerDANIE(nnUNetTrainerRecipe):
    """Trains DANIE, by default DANIE-L with the paper's recipe."""

    default_preset = "danie-l"
