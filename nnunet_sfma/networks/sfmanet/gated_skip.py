"""SFGU, the two gating units of one skip connection, with or without DMAU behind them."""

import torch
from torch import nn

from nnunet_sfma.networks.half_precision import at_least_float32, saturate
from nnunet_sfma.networks.sfmanet.dual_axis import DualAxisMultiScaleAttentionUnit
from nnunet_sfma.networks.sfmanet.frequency_gating import FrequencyGatingUnit
from nnunet_sfma.networks.sfmanet.spatial_gating import SpatialGatingUnit


class GatedSkip(nn.Module):
    """SFGU with or without DMAU on one skip connection, (B, C, H, W) to the same shape.

    ``X = DW5x5(X_in)`` feeds both gating units. With DMAU the skip is equation 20. Without it (a row of the paper's
    Tables 3 and 4 for which no formula is printed) the skip is Out_S + Out_C.

    Args:
        channels: C.
        sgu: keyword arguments of :class:`SpatialGatingUnit`.
        fgu: keyword arguments of :class:`FrequencyGatingUnit`.
        dmau: have DMAU.
        init_pointwise: follow DW5x5 by a 1x1 convolution, which makes it depthwise separable.
    """

    def __init__(self, channels: int, sgu: dict, fgu: dict, dmau: bool, init_pointwise: bool):
        super().__init__()
        self.init = nn.Sequential(nn.Conv2d(channels, channels, 5, padding=2, groups=channels))
        if init_pointwise:
            self.init.append(nn.Conv2d(channels, channels, 1))
        self.sgu = SpatialGatingUnit(channels, **sgu)
        self.fgu = FrequencyGatingUnit(channels, **fgu)
        self.dmau = DualAxisMultiScaleAttentionUnit(channels) if dmau else None

    def forward(self, x_in: torch.Tensor) -> torch.Tensor:
        x = self.init(x_in)
        return self._combined(x_in, x, self.sgu(x), self.fgu(x))

    def _combined(self, x_in: torch.Tensor, x: torch.Tensor, out_s: torch.Tensor, out_c: torch.Tensor) -> torch.Tensor:
        if self.dmau is None:
            return saturate(at_least_float32(out_s) + at_least_float32(out_c), out_c.dtype)
        return self.dmau(x_in, x, out_s, out_c)
