"""The one module that nnU-Net finds: it only re-exports, so the classes stay importable and picklable.

nnU-Net drops this module from ``sys.modules`` after each look-up; the trainers live in the installed package and stay.
"""

from nnunet_sfma.nnunet_discovery import refuse_misspelled
from nnunet_sfma.trainers.nnUNetTrainerDANIE import nnUNetTrainerDANIE
from nnunet_sfma.trainers.nnUNetTrainerDANIE_L import nnUNetTrainerDANIE_L
from nnunet_sfma.trainers.nnUNetTrainerDANIE_S import nnUNetTrainerDANIE_S
from nnunet_sfma.trainers.nnUNetTrainerPeer import nnUNetTrainerPeer
from nnunet_sfma.trainers.nnUNetTrainerSFMANet import nnUNetTrainerSFMANet
from nnunet_sfma.trainers.typed_prediction import refuse_missing_device_of_prediction
from nnunet_sfma.trainers.typed_training import refuse_missing_plans

__all__ = [
    "nnUNetTrainerDANIE",
    "nnUNetTrainerDANIE_L",
    "nnUNetTrainerDANIE_S",
    "nnUNetTrainerPeer",
    "nnUNetTrainerSFMANet",
]


def __getattr__(name: str):
    """nnU-Net asks each module for the trainer it wants; a name that is nearly one of ours is a typing error."""
    refuse_misspelled(name, __all__)
    raise AttributeError(name)


# nnU-Net imports this module before it reads plans, and before it moves a network to its device
refuse_missing_plans()
refuse_missing_device_of_prediction()
