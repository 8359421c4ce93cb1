"""The U-Net that carries SFMANet's units."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.half_precision import saturate
from nnunet_sfma.networks.sfmanet.information_enhancement import InformationEnhancementModule


class DoubleConvolution(nn.Module):
    """[3x3 convolution - BN - ReLU] twice, (B, C_in, H, W) to (B, C_out, H, W).

    The convolutions have no bias: batch normalisation would cancel it exactly. Their outputs saturate in float16, since
    in the decoder they read the unbounded product of equation 20.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = conv(x)
            x = F.relu(norm(saturate(x, x.dtype)))
        return x


class Encoder(nn.Module):
    """Double convolutions with an IEM in front of the pooling; returns every stage's feature, finest first.

    Args:
        input_channels: channels of the image.
        features_per_stage: widths from the finest to the deepest stage.
        iem: keyword arguments of :class:`InformationEnhancementModule`.
        iem_stages: how many stages, counted from the finest, have one.
    """

    def __init__(self, input_channels: int, features_per_stage: Sequence[int], iem: dict, iem_stages: int):
        super().__init__()
        widths = [input_channels, *features_per_stage]
        self.stages = nn.ModuleList(DoubleConvolution(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.iem = nn.ModuleList(
            InformationEnhancementModule(width, **iem) if i < iem_stages else nn.Identity()
            for i, width in enumerate(features_per_stage[:-1])
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = [self.stages[0](x)]
        for stage, iem in zip(self.stages[1:], self.iem, strict=True):
            features.append(stage(F.max_pool2d(iem(features[-1]), 2)))
        return features


class Decoder(nn.Module):
    """Transposed convolution, concatenation with the skip, double convolution; from the deepest stage up.

    The head is named ``seg_layers`` because nnU-Net leaves exactly those parameters out when it loads pretrained
    weights from another label set.
    """

    def __init__(self, features_per_stage: Sequence[int], num_classes: int):
        super().__init__()
        deep_to_fine = list(features_per_stage)[::-1]
        pairs = list(zip(deep_to_fine, deep_to_fine[1:], strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, fine, 2, stride=2) for deep, fine in pairs)
        self.stages = nn.ModuleList(DoubleConvolution(2 * fine, fine) for _, fine in pairs)
        self.seg_layers = nn.ModuleList([nn.Conv2d(features_per_stage[0], num_classes, 1)])

    def forward(self, deepest: torch.Tensor, skips: Sequence[torch.Tensor]) -> torch.Tensor:
        x = deepest
        for up, stage, skip in zip(self.up, self.stages, reversed(skips), strict=True):
            x = stage(torch.cat([skip, up(x)], dim=1))
        return self.seg_layers[0](x)
