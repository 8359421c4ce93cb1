"""SFMANet, step by step."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class SpatialGroupNorm(nn.Module):
    """SGN, equations 1-3, and the weights of equation 4."""

    epsilon = 1e-5

    def __init__(self, channels: int):
        super().__init__()
        self.groups = 16 if channels >= 64 else max(1, channels // 4)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grouped = x.reshape(x.shape[0], self.groups, -1)
        mu = grouped.mean(dim=2, keepdim=True)  # (2)
        sigma = torch.sqrt(((grouped - mu) ** 2).mean(dim=2, keepdim=True) + self.epsilon)  # (3)
        normalised = ((grouped - mu) / sigma).reshape(x.shape)
        return self.weight.view(1, -1, 1, 1) * normalised + self.bias.view(1, -1, 1, 1)  # (1)

    def correlation_weights(self) -> torch.Tensor:
        """w of equation 4, (C,)."""
        gamma = self.weight.reshape(self.groups, -1)
        beta = self.bias.reshape(self.groups, -1)
        gamma_share = gamma / (gamma.abs().mean(dim=1, keepdim=True) + 1e-3)
        beta_share = beta / (beta.abs().mean(dim=1, keepdim=True) + 1)
        return (gamma_share + beta_share).reshape(-1)


class SpatialGatingUnit(nn.Module):
    """SGU, equations 1-7."""

    def __init__(self, channels: int, threshold: float = 0.5):
        super().__init__()
        self.threshold = threshold
        self.norm = SpatialGroupNorm(channels)
        self.attention = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1), nn.Conv2d(channels // 2, 1, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)  # (1)-(3)
        w = self.norm.correlation_weights().view(1, -1, 1, 1)  # (4)
        r = torch.sigmoid(w * y)
        informative = r > self.threshold
        w1 = torch.where(informative, torch.ones_like(r), r)  # (5)
        w2 = torch.where(informative, torch.zeros_like(r), r)
        x1 = w1 * x
        x2 = w2 * x
        a = self.attention(x1 + x2)  # (6)
        x11, x12 = x1.chunk(2, dim=1)
        x21, x22 = x2.chunk(2, dim=1)
        return torch.cat([(x11 + x22) * a, (x12 + x21) * a], dim=1)  # (7)


class ChannelPermutation(nn.Module):
    """Perm of equations 10 and 14."""

    def __init__(self, channels: int, generator: torch.Generator):
        super().__init__()
        self.register_buffer("order", torch.randperm(channels, generator=generator, device="cpu"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.order]


class FrequencyGatingUnit(nn.Module):
    """FGU, equations 8-14."""

    def __init__(
        self,
        channels: int,
        alpha: float = 0.5,
        squeeze: int = 2,
        groups: int = 4,
        rescale: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        self.channels = channels
        self.high = round(alpha * channels)
        low = channels - self.high
        high_squeezed, low_squeezed = self.high // squeeze, low // squeeze
        self.rescale = rescale
        self.squeeze_high = nn.Conv2d(self.high, high_squeezed, 1, bias=False)
        self.squeeze_low = nn.Conv2d(low, low_squeezed, 1, bias=False)
        self.group_conv = nn.Conv2d(high_squeezed, channels, 3, padding=1, groups=groups)
        self.point_conv_high = nn.Conv2d(high_squeezed, channels, 1, bias=False)
        self.point_conv_low = nn.Conv2d(low_squeezed, channels - low_squeezed, 1, bias=False)
        generator = torch.Generator().manual_seed(seed)
        self.permute_high = ChannelPermutation(high_squeezed, generator)
        self.permute_low = ChannelPermutation(low_squeezed, generator)
        self.permute_first = ChannelPermutation(channels, generator)
        self.permute_second = ChannelPermutation(channels, generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, l = x[:, : self.high], x[:, self.high :]  # noqa: E741  (8)
        u1, l1 = self.squeeze_high(u), self.squeeze_low(l)  # (9)
        u2, l2 = self.permute_high(u1), self.permute_low(l1)  # (10)
        y1 = self.group_conv(u2) + self.point_conv_high(u2)  # (11)
        y2 = torch.cat([self.point_conv_low(l2), l2], dim=1)  # (12)
        y3 = torch.cat([y1, y2], dim=1)
        weights = torch.softmax(y3.mean(dim=(2, 3), keepdim=True), dim=1)  # (13)
        if self.rescale:
            weights = 2 * self.channels * weights
        o1, o2 = (weights * y3).chunk(2, dim=1)
        return self.permute_first(o1) + self.permute_second(o2)  # (14)


class StripConvolution(nn.Sequential):
    """``DW_kx1(DW_1xk(x))`` of equations 15-18."""

    def __init__(self, channels: int, length: int):
        super().__init__(
            nn.Conv2d(channels, channels, (1, length), padding=(0, length // 2), groups=channels),
            nn.Conv2d(channels, channels, (length, 1), padding=(length // 2, 0), groups=channels),
        )


class DualAxisMultiScaleAttentionUnit(nn.Module):
    """DMAU, equations 15-20."""

    def __init__(self, channels: int, kernel_sizes: Sequence[int] = (7, 11, 21)):
        super().__init__()
        self.spatial = nn.ModuleList(StripConvolution(channels, k) for k in kernel_sizes)
        self.frequency = nn.ModuleList(StripConvolution(channels, k) for k in kernel_sizes)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x_in: torch.Tensor, x: torch.Tensor, out_s: torch.Tensor, out_c: torch.Tensor) -> torch.Tensor:
        spatial = sum(strip(out_s) for strip in self.spatial)  # (15), (17)
        frequency = sum(strip(out_c) for strip in self.frequency)  # (16), (18)
        f = x + spatial + frequency  # (19)
        return self.mix(f) * x_in  # (20)


class AxialAttention(nn.Module):
    """CAA (axis "column") or RAA (axis "row") of equation 23: ``softmax(q k^T / sqrt(d)) v`` along each line."""

    def __init__(self, channels: int, axis: str):
        super().__init__()
        self.axis = axis
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self._lines(self.query(x)), self._lines(self.key(x)), self._lines(self.value(x))
        attention = torch.softmax(q @ k.transpose(2, 3) / q.shape[3] ** 0.5, dim=3)
        return self._map(attention @ v)

    def _lines(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, W, H, C) for columns, (B, H, W, C) for rows."""
        return x.permute(0, 3, 2, 1) if self.axis == "column" else x.permute(0, 2, 3, 1)

    def _map(self, lines: torch.Tensor) -> torch.Tensor:
        return lines.permute(0, 3, 2, 1) if self.axis == "column" else lines.permute(0, 3, 1, 2)


def shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Channel shuffle: the groups' first channels, then their second ones, and so on."""
    batch, channels, height, width = x.shape
    grouped = x.reshape(batch, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(batch, channels, height, width)


class InformationEnhancementModule(nn.Module):
    """IEM, equations 21-23."""

    def __init__(self, channels: int, fuse_kernel: int = 1, fuse_groups: int = 1, pointwise: bool = True):
        super().__init__()
        self.branches = nn.ModuleList()
        for k in (3, 5, 7):
            branch = nn.Sequential(nn.Conv2d(channels, channels, k, padding=k // 2, groups=channels))
            if pointwise:
                branch.append(nn.Conv2d(channels, channels, 1))
            self.branches.append(branch)
        self.fuse = nn.Conv2d(4 * channels, channels, fuse_kernel, padding=fuse_kernel // 2, groups=fuse_groups)
        self.column_attention = AxialAttention(channels, "column")
        self.row_attention = AxialAttention(channels, "row")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f3, f5, f7 = (branch(x) for branch in self.branches)  # (21)
        concatenated = torch.cat([x, f3, f5, f7], dim=1)  # (22)
        f = self.fuse(shuffle(concatenated, 4))
        return f + self.row_attention(self.column_attention(f))  # (23)


class DoubleConvolution(nn.Module):
    """[3x3 convolution - BN - ReLU] twice."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)))


class GatedSkip(nn.Module):
    """SFGU with or without DMAU on one skip connection."""

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
        out_s = self.sgu(x)
        out_c = self.fgu(x)
        if self.dmau is None:
            return out_s + out_c
        return self.dmau(x_in, x, out_s, out_c)


class Encoder(nn.Module):
    """x_l = Enc_l(.), the next stage's input = MaxPool(IEM_l(x_l))."""

    def __init__(self, input_channels: int, features_per_stage: Sequence[int], iem: dict, iem_stages: int):
        super().__init__()
        widths = [input_channels, *features_per_stage]
        self.stages = nn.ModuleList(DoubleConvolution(a, b) for a, b in pairwise(widths))
        self.iem = nn.ModuleList(
            InformationEnhancementModule(width, **iem) if i < iem_stages else nn.Identity()
            for i, width in enumerate(features_per_stage[:-1])
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = [self.stages[0](x)]
        for iem, stage in zip(self.iem, self.stages[1:], strict=True):
            pooled = F.max_pool2d(iem(features[-1]), 2)
            features.append(stage(pooled))
        return features


class Decoder(nn.Module):
    """d_l = Dec_l(Cat[skip_l, Up(d_l+1)]), logits = Conv1x1(d_0)."""

    def __init__(self, features_per_stage: Sequence[int], num_classes: int):
        super().__init__()
        pairs = list(pairwise(reversed(features_per_stage)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, fine, 2, stride=2) for deep, fine in pairs)
        self.stages = nn.ModuleList(DoubleConvolution(2 * fine, fine) for _, fine in pairs)
        self.seg_layers = nn.ModuleList([nn.Conv2d(features_per_stage[0], num_classes, 1)])

    def forward(self, d: torch.Tensor, skips: Sequence[torch.Tensor]) -> torch.Tensor:
        for up, stage, skip in zip(self.up, self.stages, reversed(skips), strict=True):
            d = stage(torch.cat([skip, up(d)], dim=1))
        return self.seg_layers[0](d)


class ReferenceSFMANet(nn.Module):
    """SFMANet; with ``sfgu=False, dmau=False, iem_stages=0`` the U-Net that the paper compares with."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        features_per_stage: Sequence[int] = (64, 128, 256, 512, 1024),
        sfgu: bool = True,
        dmau: bool = True,
        iem_stages: int | None = None,
        iem_fuse_kernel: int = 1,
        iem_fuse_groups: int = 1,
        iem_pointwise: bool = True,
        init_pointwise: bool = False,
        sgu_threshold: float = 0.5,
        fgu_alpha: float = 0.5,
        fgu_squeeze: int = 2,
        fgu_groups: int = 4,
        fgu_rescale: bool = True,
    ):
        super().__init__()
        skips = len(features_per_stage) - 1
        iem = {"fuse_kernel": iem_fuse_kernel, "fuse_groups": iem_fuse_groups, "pointwise": iem_pointwise}
        sgu = {"threshold": sgu_threshold}
        fgu = {"alpha": fgu_alpha, "squeeze": fgu_squeeze, "groups": fgu_groups, "rescale": fgu_rescale}
        self.divisor = 2**skips
        self.encoder = Encoder(input_channels, features_per_stage, iem, skips if iem_stages is None else iem_stages)
        self.skips = nn.ModuleList(
            GatedSkip(width, sgu, fgu, dmau, init_pointwise) if sfgu else nn.Identity()
            for width in features_per_stage[:-1]
        )
        self.decoder = Decoder(features_per_stage, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.divisor, 0, -height % self.divisor))
        *features, deepest = self.encoder(x)
        skips = [skip(feature) for skip, feature in zip(self.skips, features, strict=True)]
        return self.decoder(deepest, skips)[:, :, :height, :width]
