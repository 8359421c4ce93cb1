"""Attention U-Net, as MONAI builds it."""

from collections.abc import Sequence

from nnunet_sfma.networks.peers.library import monai_networks
from nnunet_sfma.networks.peers.padded_network import PaddedNetwork
from nnunet_sfma.networks.peers.whole_numbers import check_whole_numbers


class AttentionUNet(PaddedNetwork):
    """MONAI's ``AttentionUnet``: a U-Net whose skips are weighted by attention gates (Oktay et al., 2018).

    The defaults give 31.74 M parameters. The Attention U-Net that SFMANet's paper compares with has 34.88 M, which is
    the widespread implementation with two convolutions a stage. MONAI's differs from that one: the encoder's stages
    begin with a strided convolution instead of max pooling, the decoder's have a single convolution (with instance norm
    and PReLU, the encoder's with batch norm and ReLU), and it goes up by transposed convolutions.

    Args:
        input_channels: channels of the image.
        num_classes: channels of the logits.
        features_per_stage: widths from the finest to the deepest stage, two or more; sides are padded to multiples of
            2**(stages - 1).

    Raises:
        ModuleNotFoundError: if MONAI is not installed.
        ValueError: if the widths are none.
    """

    def __init__(
        self, input_channels: int, num_classes: int, features_per_stage: Sequence[int] = (64, 128, 256, 512, 1024)
    ):
        check_whole_numbers("features_per_stage", features_per_stage)
        if min(features_per_stage) < 2:
            raise ValueError(
                f"features_per_stage: a gate halves a width, so it is 2 at least, got {features_per_stage}"
            )
        strides = [2] * (len(features_per_stage) - 1)
        network = monai_networks("AttentionUNet").AttentionUnet(
            spatial_dims=2,
            in_channels=input_channels,
            out_channels=num_classes,
            channels=list(features_per_stage),
            strides=strides,
        )
        super().__init__(network, input_channels, divisor=2 ** len(strides))
