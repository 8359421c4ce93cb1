"""Information enhancement module (IEM) of SFMANet, equations 21-23."""

from typing import Literal, get_args

import torch
from torch import nn

from nnunet_sfma.networks.sfmanet.axial_attention import AxialAttention

AttentionName = Literal["scaled", "unscaled", "identity"]


class InformationEnhancementModule(nn.Module):
    """IEM: three depthwise scales, shuffled, fused, and attended along columns and then rows, equations 21-23.

    ::

        F_k = DW_kxk(X), k = 3, 5, 7          (each followed by a 1x1 if ``pointwise``)  (21)
        F_cat = Cat[X, F_3, F_5, F_7]                                                    (22)
        F = Fuse(Shuffle(F_cat))              4C -> C
        out = F + RAA(CAA(F))                                                            (23)

    The paper does not say where 4C channels become C again. Attention at 4C would alone exceed the published number of
    parameters, so the reduction comes before it. The shuffle is the deterministic one of four groups; in front of a
    dense fusion it is absorbed by the weights and matters only with ``fuse_groups`` > 1.

    Args:
        channels: C, a multiple of 8.
        fuse_kernel: side of the fusing convolution, odd.
        fuse_groups: groups of the fusing convolution.
        pointwise: make the three branches depthwise separable.
        attention: "scaled" or "unscaled", see :class:`AxialAttention`; "identity" lets CAA and RAA pass F through, as
            a fault in a widespread copy of them does for a whole training on a GPU, so that out = 2 F.
        attention_factor: see :class:`AxialAttention`.

    Raises:
        ValueError: if the channels are not a multiple of 8, the groups do not divide them, the kernel is even, or the
            attention is unknown or has no factor to learn.
    """

    sources = 4

    def __init__(
        self,
        channels: int,
        fuse_kernel: int = 1,
        fuse_groups: int = 1,
        pointwise: bool = True,
        attention: AttentionName = "scaled",
        attention_factor: bool = False,
    ):
        super().__init__()
        if fuse_kernel % 2 == 0:
            raise ValueError(f"the fusing kernel is odd, so that the size stays; got {fuse_kernel}")
        if channels % fuse_groups:
            raise ValueError(f"{fuse_groups} fusion groups do not divide {channels} channels")
        if attention not in get_args(AttentionName):
            raise ValueError(f"iem_attention is {', '.join(get_args(AttentionName))}, got {attention!r}")
        if attention == "identity" and attention_factor:
            raise ValueError("iem_attention identity has no factor to learn: switch iem_attention_factor off")
        self.branches = nn.ModuleList(_branch(channels, k, pointwise) for k in (3, 5, 7))
        self.shuffle = nn.ChannelShuffle(self.sources)
        self.fuse = nn.Conv2d(
            self.sources * channels, channels, fuse_kernel, padding=fuse_kernel // 2, groups=fuse_groups
        )
        if attention == "identity":
            self.column_attention, self.row_attention = nn.Identity(), nn.Identity()
        else:
            scaled = attention == "scaled"
            self.column_attention = AxialAttention(channels, "column", scaled, attention_factor)
            self.row_attention = AxialAttention(channels, "row", scaled, attention_factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        fused = self._fused(x)
        return fused + self.row_attention(self.column_attention(fused))  # (23)

    def _fused(self, x: torch.Tensor) -> torch.Tensor:
        """F, the sources of equation 22 shuffled and fused."""
        concatenated = torch.cat([x, *(branch(x) for branch in self.branches)], dim=1)  # (21), (22)
        return self.fuse(self.shuffle(concatenated))


def _branch(channels: int, kernel: int, pointwise: bool) -> nn.Sequential:
    layers = [nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)]
    if pointwise:
        layers.append(nn.Conv2d(channels, channels, 1))
    return nn.Sequential(*layers)
