"""Dual-axis multi-scale attention unit (DMAU) of SFMANet, equations 15-20."""

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_sfma.networks.half_precision import at_least_float32, saturate


class StripConvolution(nn.Sequential):
    """A horizontal and then a vertical depthwise strip, ``DW_kx1(DW_1xk(x))``, equations 15-18.

    Args:
        channels: C.
        length: k, odd. Zero padding keeps the size, also where the strip is longer than the map.
    """

    def __init__(self, channels: int, length: int):
        super().__init__(
            nn.Conv2d(channels, channels, (1, length), padding=(0, length // 2), groups=channels),
            nn.Conv2d(channels, channels, (length, 1), padding=(length // 2, 0), groups=channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape, finite in float16 after each strip: inf - inf would be NaN."""
        for conv in self:
            x = conv(x)
            x = saturate(x, x.dtype)
        return x


class DualAxisMultiScaleAttentionUnit(nn.Module):
    """DMAU: strips of three lengths on both gated maps, mixed and multiplied with the input, equations 15-20.

    ::

        F = X + sum_k Strip_s,k(Out_S) + sum_k Strip_c,k(Out_C),  k = 7, 11, 21      (15-19)
        O = Conv1x1(F) * X_in                                                        (20)

    Equation 16 feeds Out_S to two strips of the frequency branch; by its own text that branch works on Out_C, and so it
    does here. The product of equation 20 has no bound: O is quadratic in the activation. It is taken in float32;
    this and what leads to it is clamped to float16's range where the network runs in float16, as it does in nnU-Net's
    prediction. Clamping keeps the output finite, not exact.

    Args:
        channels: C.
        kernel_sizes: strip lengths.
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int] = (7, 11, 21)):
        super().__init__()
        self.spatial = nn.ModuleList(StripConvolution(channels, k) for k in kernel_sizes)
        self.frequency = nn.ModuleList(StripConvolution(channels, k) for k in kernel_sizes)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x_in: torch.Tensor, x: torch.Tensor, out_s: torch.Tensor, out_c: torch.Tensor) -> torch.Tensor:
        """Combine the four maps, each (B, C, H, W), to one.

        Args:
            x_in: the encoder's feature X_in.
            x: the initial map X, a depthwise convolution of X_in.
            out_s: Out_S of the spatial gating unit.
            out_c: Out_C of the frequency gating unit.
        """
        fused = at_least_float32(x)
        for strip in self.spatial:
            fused = fused + strip(out_s)  # (15), (17)
        for strip in self.frequency:
            fused = fused + strip(out_c)  # (16), (18)
        attention = self.mix(saturate(fused, x.dtype))  # (19)
        attention = saturate(attention, attention.dtype)
        return saturate(at_least_float32(attention) * at_least_float32(x_in), attention.dtype)  # (20)
