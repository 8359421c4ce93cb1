"""The one module that nnU-Net finds: it only re-exports, so the classes stay importable and picklable.

nnU-Net drops this module from ``sys.modules`` after each look-up; the trainers live in the installed package and stay.
"""

from nnunet_sfma.trainers.nnUNetTrainerSFMANet import nnUNetTrainerSFMANet

__all__ = ["nnUNetTrainerSFMANet"]
