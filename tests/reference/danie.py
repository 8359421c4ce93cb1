"""DANIE, step by step; timm builds MaxViT (equation 1), as it does for the package."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.danie import SelfAttentionalPerception


class ConvNormGelu(nn.Sequential):
    """3x3 convolution - BN - GELU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.GELU(),
        )


class ConvBlock(nn.Sequential):
    """[3x3 convolution - BN - GELU] twice."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(ConvNormGelu(in_channels, out_channels), ConvNormGelu(out_channels, out_channels))


class HierarchicalAttentionBlock(nn.Module):
    """A block of HAP, equations 2-5."""

    def __init__(
        self,
        channels: int,
        channel_attention: bool = True,
        spatial_attention: bool = True,
        attention_order: str = "channel_spatial",
        dynamic_calibration: bool = True,
    ):
        super().__init__()
        hidden = max(channels // 16, 8)
        self.mlp = None
        if channel_attention:
            self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, channels, 1))
        self.position = nn.Conv2d(1, 1, 1) if spatial_attention else None
        self.spatial_first = attention_order == "spatial_channel"
        self.omega_max = nn.Parameter(torch.tensor(0.5)) if dynamic_calibration else 1.0
        self.omega_avg = nn.Parameter(torch.tensor(0.5)) if dynamic_calibration else 1.0
        self.calibrate = nn.Conv2d(channels, 1, 1)
        self.block = ConvBlock(channels, channels)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        o_max = self._branch(h, torch.amax)
        o_avg = self._branch(h, torch.mean)
        o_d = self.omega_max * o_max + self.omega_avg * o_avg  # (4)
        a_d = torch.sigmoid(self.calibrate(o_d))  # (5)
        return self.block(a_d * h)

    def _branch(self, h: torch.Tensor, pool: Callable) -> torch.Tensor:
        if self.spatial_first:
            return self._channel(self._spatial(h, pool), pool)
        return self._spatial(self._channel(h, pool), pool)

    def _channel(self, h: torch.Tensor, pool: Callable) -> torch.Tensor:
        if self.mlp is None:
            return h
        c = torch.sigmoid(self.mlp(pool(h, dim=(2, 3), keepdim=True)))
        return c * h  # (2)

    def _spatial(self, m: torch.Tensor, pool: Callable) -> torch.Tensor:
        if self.position is None:
            return m
        s = torch.sigmoid(self.position(pool(m, dim=1, keepdim=True)))
        return s * m  # (3)


class HierarchicalAttentionalPerception(nn.Module):
    """HAP: H_1 to H_4."""

    def __init__(self, input_channels: int, features_per_stage: Sequence[int], blocks_per_stage: int, attention: dict):
        super().__init__()
        first = features_per_stage[0]
        self.entries = nn.ModuleList(
            [nn.Sequential(ConvNormGelu(input_channels, first // 2, 2), ConvNormGelu(first // 2, first, 2))]
        )
        self.entries.extend(ConvNormGelu(fine, deep, 2) for fine, deep in pairwise(features_per_stage))
        self.stages = nn.ModuleList(
            nn.Sequential(*(HierarchicalAttentionBlock(width, **attention) for _ in range(blocks_per_stage)))
            for width in features_per_stage
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for entry, stage in zip(self.entries, self.stages, strict=True):
            x = stage(entry(x))
            features.append(x)
        return features


class EnhancingSelfAttention(nn.Module):
    """ES, equations 6-7."""

    def __init__(self, scale: float | None = None):
        super().__init__()
        self.scale = 1.0 if scale is None else scale
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        rows = s.flatten(2)
        mixed = self.weights(s).transpose(1, 2) @ rows
        return self.gain * mixed.reshape(s.shape) + s  # (7)

    def weights(self, s: torch.Tensor) -> torch.Tensor:
        """w_ij of equation 6, (B, C, C), which sums to 1 over the sources i."""
        rows = s.flatten(2)
        return torch.softmax(self.scale * (rows @ rows.transpose(1, 2)), dim=1)  # (6)


class EnhancingHierarchicalAttention(nn.Module):
    """EH, equations 8-9."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 4
        self.context = nn.Conv2d(channels, 1, 1, bias=False)
        self.integrate = nn.Sequential(
            nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        weights = torch.sigmoid(self.integrate(self.global_context(h)))
        return weights[:, :, None, None] * h  # (9)

    def global_context(self, h: torch.Tensor) -> torch.Tensor:
        """A_g of equation 8, (B, C)."""
        a = torch.softmax(self.context(h).flatten(2), dim=2)
        return (h.flatten(2) @ a.transpose(1, 2)).squeeze(2)  # (8)


class EnhancedSum(nn.Module):
    """e = Fuse(ES(S) + EH(H)), equation 10."""

    def __init__(self, channels: int, es: bool, eh: bool, fuse_conv: bool, es_scale: float | None):
        super().__init__()
        self.es = EnhancingSelfAttention(es_scale) if es else nn.Identity()
        self.eh = EnhancingHierarchicalAttention(channels) if eh else nn.Identity()
        self.fuse = ConvNormGelu(channels, channels) if fuse_conv else nn.Identity()

    def forward(self, s: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return self.fuse(self.es(s) + self.eh(h))  # (10)


class Addition(nn.Module):
    """e = S + H, or the one stream that there is."""

    def forward(self, *streams: torch.Tensor) -> torch.Tensor:
        return sum(streams)


class ConcatenationWithResidual(nn.Module):
    """e = Conv(Cat[S, H]) + S + H."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduce = ConvNormGelu(2 * channels, channels)

    def forward(self, s: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return self.reduce(torch.cat([s, h], dim=1)) + s + h


FUSIONS = {
    "joint_preservation": lambda width, fuse_conv, es_scale: EnhancedSum(width, True, True, fuse_conv, es_scale),
    "es_add": lambda width, fuse_conv, es_scale: EnhancedSum(width, True, False, fuse_conv, es_scale),
    "eh_add": lambda width, fuse_conv, es_scale: EnhancedSum(width, False, True, fuse_conv, es_scale),
    "add": lambda width, fuse_conv, es_scale: Addition(),
    "concat_residual": lambda width, fuse_conv, es_scale: ConcatenationWithResidual(width),
}


def raised(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear interpolation; pixels are areas, the border is repeated."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class JointPreservation(nn.Module):
    """JP, equations 10-11: j_4 = ConvBlock(e_4), j_i = ConvBlock(Cat[e_i, Up(j_i+1)])."""

    def __init__(self, features_per_stage: Sequence[int], fusion: str, fuse_conv: bool, es_scale: float | None):
        super().__init__()
        self.fusions = nn.ModuleList(FUSIONS[fusion](width, fuse_conv, es_scale) for width in features_per_stage)
        self.up = nn.ModuleList(ConvNormGelu(deep, fine) for fine, deep in pairwise(features_per_stage))
        *finer, deepest = features_per_stage
        self.blocks = nn.ModuleList([*(ConvBlock(2 * fine, fine) for fine in finer), ConvBlock(deepest, deepest)])

    def forward(self, *streams: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        e = [fusion(*features) for fusion, *features in zip(self.fusions, *streams, strict=True)]
        j = self.blocks[-1](e[-1])
        maps = [j]
        for i in reversed(range(len(self.up))):
            j = self.blocks[i](torch.cat([e[i], raised(self.up[i](j), e[i].shape[2:])], dim=1))  # (11)
            maps.insert(0, j)
        return maps


class PredictionHeads(nn.Module):
    """y = p_1 + p_2 + p_3 + p_4, equation 12 with all weights 1."""

    def __init__(self, features_per_stage: Sequence[int], num_classes: int):
        super().__init__()
        self.seg_layers = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in features_per_stage)

    def forward(self, maps: Sequence[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
        return sum(raised(head(j), size) for head, j in zip(self.seg_layers, maps, strict=True))  # (12)


class ReferenceDANIE(nn.Module):
    """DANIE; the defaults are DANIE-L."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        image_size: Sequence[int],
        backbone: str = "maxvit_small_tf_224",
        features_per_stage: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 5, 2),
        self_attention: bool = True,
        hierarchical_attention: bool = True,
        blocks_per_stage: int = 2,
        channel_attention: bool = True,
        spatial_attention: bool = True,
        attention_order: str = "channel_spatial",
        dynamic_calibration: bool = True,
        fusion: str = "joint_preservation",
        jp_fuse_conv: bool = True,
        es_scale: float | None = None,
    ):
        super().__init__()
        # multiples of 32 from 64 on
        self.size = tuple(max(side + -side % 32, 64) for side in image_size)
        attention = {
            "channel_attention": channel_attention,
            "spatial_attention": spatial_attention,
            "attention_order": attention_order,
            "dynamic_calibration": dynamic_calibration,
        }
        self.sap = self.hap = None
        if self_attention:
            self.sap = SelfAttentionalPerception(input_channels, self.size, backbone, features_per_stage, depths)
        if hierarchical_attention:
            self.hap = HierarchicalAttentionalPerception(
                input_channels, features_per_stage, blocks_per_stage, attention
            )
        self.joint_preservation = JointPreservation(features_per_stage, fusion, jp_fuse_conv, es_scale)
        self.heads = PredictionHeads(features_per_stage, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, self.size[1] - width, 0, self.size[0] - height))
        streams = [stream(x) for stream in (self.sap, self.hap) if stream is not None]
        maps = self.joint_preservation(*streams)
        return self.heads(maps, self.size)[:, :, :height, :width]
