"""``nnUNetv2_train DATASET 2d FOLD -tr nnUNetTrainerSFMANet``."""

from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe


class nnUNetTrainerSFMANet(nnUNetTrainerRecipe):
    """Trains SFMANet, by default with the paper's recipe."""

    default_preset = "sfmanet"
