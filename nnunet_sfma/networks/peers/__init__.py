"""Networks of other people to compare with, built by MONAI and fitted to this package's interface.

MONAI is an optional dependency, ``pip install 'nnunet-sfma[peers]'``; it is imported when such a network is built.
"""

from nnunet_sfma.networks.peers.attention_unet import AttentionUNet
from nnunet_sfma.networks.peers.swin_unetr import SwinUNETR
from nnunet_sfma.networks.peers.unet_plus_plus import UNetPlusPlus
from nnunet_sfma.networks.peers.unetr import UNETR

__all__ = ["AttentionUNet", "SwinUNETR", "UNETR", "UNetPlusPlus"]
