"""The networks, pure PyTorch: usable without nnU-Net and without the rest of this package."""

from nnunet_sfma.networks.danie import DANIE
from nnunet_sfma.networks.sfmanet import SFMANet

__all__ = ["DANIE", "SFMANet"]
