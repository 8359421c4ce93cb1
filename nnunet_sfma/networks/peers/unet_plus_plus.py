"""U-Net++, as MONAI builds it."""

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_sfma.networks.peers.library import monai_networks
from nnunet_sfma.networks.peers.padded_network import PaddedNetwork
from nnunet_sfma.networks.peers.whole_numbers import check_whole_numbers


class UNetPlusPlus(PaddedNetwork):
    """MONAI's ``BasicUNetPlusPlus``: a U-Net with nested, dense skips (Zhou et al., 2018).

    The defaults give 36.45 M parameters; the U-Net++ that SFMANet's paper compares with has 36.62 M. MONAI's goes up by
    transposed convolutions which, but in the finest stage, halve the width, and normalises by instance (affine, with
    LeakyReLU), where widespread implementations resize and normalise by batch.

    It has one output, that of its last node. The heads of the other three, which only deep supervision reads, are taken
    off: several GPUs need a gradient for each parameter.

    Args:
        input_channels: channels of the image.
        num_classes: channels of the logits.
        features_per_stage: five widths from the finest to the deepest stage; the finest must be the finest of the
            decoder as well.

    Raises:
        ModuleNotFoundError: if MONAI is not installed.
        ValueError: if the widths are not five.
    """

    def __init__(
        self, input_channels: int, num_classes: int, features_per_stage: Sequence[int] = (64, 128, 256, 512, 1024)
    ):
        check_whole_numbers("features_per_stage", features_per_stage, count=5)
        network = monai_networks("UNetPlusPlus").BasicUNetPlusPlus(
            spatial_dims=2,
            in_channels=input_channels,
            out_channels=num_classes,
            features=[*features_per_stage, features_per_stage[0]],
        )
        for head in ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3"):
            setattr(network, head, nn.Identity())
        super().__init__(network, input_channels, divisor=16)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The one output that the library's network lists."""
        return self.network(x)[0]
