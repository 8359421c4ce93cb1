"""Joint preservation (JP) of DANIE, equations 10-11, and the fusions that the paper compares it with."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.danie.convolutions import ConvBlock, ConvNormGelu
from nnunet_sfma.networks.danie.enhancing_hierarchical_attention import EnhancingHierarchicalAttention
from nnunet_sfma.networks.danie.enhancing_self_attention import EnhancingSelfAttention

FusionName = Literal["joint_preservation", "es_add", "eh_add", "add", "concat_residual"]
FUSIONS = get_args(FusionName)


class EnhancedSum(nn.Module):
    """The two streams of one stage, one or both enhanced, added: equation 10.

    ::

        e = Fuse(ES(S) + EH(H))          (10)

    Fuse, a 3x3 convolution with BN and GELU, is not in the equation. The published cost of every fusion with ES, EH or
    both exceeds that of plain addition by this convolution in each stage, to 0.03 G; ``fuse_conv=False`` leaves it
    out.

    Args:
        channels: C of both streams.
        es: enhance S; without, S itself is added.
        eh: enhance H; without, H itself is added.
        fuse_conv: apply Fuse.
        es_scale: see :class:`EnhancingSelfAttention`.
    """

    def __init__(self, channels: int, es: bool, eh: bool, fuse_conv: bool, es_scale: float | None):
        super().__init__()
        self.es = EnhancingSelfAttention(es_scale) if es else nn.Identity()
        self.eh = EnhancingHierarchicalAttention(channels) if eh else nn.Identity()
        self.fuse = ConvNormGelu(channels, channels) if fuse_conv else nn.Identity()

    def forward(self, s: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Map S and H, (B, C, H, W) each, to e of the same shape."""
        return self.fuse(self.es(s) + self.eh(h))


class Addition(nn.Module):
    """e = S + H, or the one stream that there is."""

    def forward(self, *streams: torch.Tensor) -> torch.Tensor:
        """Map one or two features (B, C, H, W) to their sum."""
        return sum(streams[1:], start=streams[0])


class ConcatenationWithResidual(nn.Module):
    """e = Conv(Cat[S, H]) + S + H with a 3x3 convolution, BN and GELU; the paper does not say what is added back.

    Args:
        channels: C of both streams.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.reduce = ConvNormGelu(2 * channels, channels)

    def forward(self, s: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Map S and H, (B, C, H, W) each, to e of the same shape."""
        return self.reduce(torch.cat([s, h], dim=1)) + s + h


class JointPreservation(nn.Module):
    """JP: fuse the streams of each stage and carry the result from the deepest stage up, equations 10-11.

    ::

        j_4 = ConvBlock(e_4);   j_i = ConvBlock(Cat[e_i, Up(j_i+1)])        (11)

    The "previous" block of equation 11 is the next deeper one. Up is a 3x3 convolution to the finer stage's width at
    the coarse resolution, BN, GELU, and bilinear interpolation; the published cost fits this order, not the
    reverse.

    Args:
        features_per_stage: widths of both streams, finest first.
        fusion: one of ``FUSIONS``; the rows C.5, C.4, C.3, C.2 and C.1 of the paper's Table 7.
        fuse_conv: see :class:`EnhancedSum`.
        es_scale: see :class:`EnhancingSelfAttention`.

    Raises:
        ValueError: if the fusion is unknown.
    """

    def __init__(self, features_per_stage: Sequence[int], fusion: FusionName, fuse_conv: bool, es_scale: float | None):
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        self.fusions = nn.ModuleList(_fusion(width, fusion, fuse_conv, es_scale) for width in features_per_stage)
        pairs = list(zip(features_per_stage, features_per_stage[1:], strict=False))
        self.up = nn.ModuleList(ConvNormGelu(deep, fine) for fine, deep in pairs)
        deepest = features_per_stage[-1]
        self.blocks = nn.ModuleList([*(ConvBlock(2 * fine, fine) for fine, _ in pairs), ConvBlock(deepest, deepest)])

    def forward(self, *streams: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Map the features of one or two streams, finest first, to j_1 ... j_4 of the same shapes."""
        fused = [fusion(*features) for fusion, *features in zip(self.fusions, *streams, strict=True)]
        maps = [self.blocks[-1](fused[-1])]
        for e, up, block in zip(fused[-2::-1], reversed(self.up), list(self.blocks)[-2::-1], strict=True):
            raised = F.interpolate(up(maps[0]), size=e.shape[2:], mode="bilinear", align_corners=False)
            maps.insert(0, block(torch.cat([e, raised], dim=1)))
        return maps


def _fusion(width: int, fusion: str, fuse_conv: bool, es_scale: float | None) -> nn.Module:
    if fusion == "add":
        return Addition()
    if fusion == "concat_residual":
        return ConcatenationWithResidual(width)
    return EnhancedSum(width, fusion != "eh_add", fusion != "es_add", fuse_conv, es_scale)
