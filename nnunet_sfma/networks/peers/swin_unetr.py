"""Swin UNETR in 2D, as MONAI builds it."""

from collections.abc import Sequence

import torch

from nnunet_sfma.networks.peers.library import monai_networks
from nnunet_sfma.networks.peers.padded_network import PaddedNetwork
from nnunet_sfma.networks.peers.whole_numbers import check_whole_numbers


class SwinUNETR(PaddedNetwork):
    """MONAI's ``SwinUNETR`` with 2D windows: a Swin Transformer encoder and a convolutional decoder.

    It is **not** Swin-Unet, a peer in both papers, whose decoder is made of Swin blocks as well and which MONAI does
    not have. The two share the idea of the encoder and nothing else: the score of one says nothing about the other. The
    defaults give 25.14 M parameters (Swin-Unet: 27.17 M) and start from random weights.

    Args:
        input_channels: channels of the image.
        num_classes: channels of the logits.
        feature_size: width of the finest stage, a multiple of 12; it doubles with each of the four.
        depths: Swin blocks of the four stages.
        num_heads: attention heads of the four stages, divisors of their widths.
        window_size: side of a window, in positions; the finest stage has half the image's resolution.

    Raises:
        ModuleNotFoundError: if MONAI is not installed.
        ValueError: if the sizes do not fit together.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
    ):
        check_whole_numbers("depths", depths, count=4)
        check_whole_numbers("num_heads", num_heads, count=4)
        check_whole_numbers("feature_size and window_size", [feature_size, window_size])
        widths = [feature_size * 2**stage for stage in range(4)]
        if any(width % heads for width, heads in zip(widths, num_heads, strict=True)):
            raise ValueError(f"num_heads must divide the widths {widths}, got {list(num_heads)}")
        device = torch.get_default_device()
        with torch.device("cpu"):  # MONAI reads numbers from tensors here, which there are none of on the meta device
            network = monai_networks("SwinUNETR").SwinUNETR(
                in_channels=input_channels,
                out_channels=num_classes,
                feature_size=feature_size,
                depths=list(depths),
                num_heads=list(num_heads),
                window_size=window_size,
                spatial_dims=2,
            )
        super().__init__(network.to(device), input_channels, divisor=32)
