"""Hierarchical-attentional perception (HAP) of DANIE, equations 2-5."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from nnunet_sfma.networks.danie.convolutions import ConvBlock, ConvNormGelu


class HierarchicalAttentionBlock(nn.Module):
    """One block: channel and spatial attention in a maximum and an average branch, calibrated, equations 2-5.

    For p in {max, avg}::

        m_p = sigmoid(MLP(pool_p over positions of h)) * h                 (2)
        O_p = sigmoid(Conv1x1(pool_p over channels of m_p)) * m_p          (3)
        O_d = omega_max O_max + omega_avg O_avg                            (4)
        out = ConvBlock(sigmoid(Conv1x1(O_d)) * h)                         (5)

    The branches stay apart until equation 4. MLP and the convolution of equation 3, a factor and a bias for the pooled
    map, carry no branch index in the paper, so both branches share them. The paper declares the map of equation 5 as
    C x 1 x 1, which a convolution that compresses the channels cannot give: here it is 1 x H x W. The scalars omega
    start at 1/2, which keeps the scale; without dynamic calibration O_d is the plain sum.

    Args:
        channels: C.
        channel_attention: without, m_p = h.
        spatial_attention: without, O_p = m_p.
        attention_order: "spatial_channel" takes equation 3 before equation 2.
        dynamic_calibration: learn the two scalars of equation 4.
        calibration_map: weigh h by the map of equation 5; without, the convolutions take O_d itself.

    Raises:
        ValueError: if the order is neither of the two.
    """

    reduction = 16
    smallest_hidden = 8

    def __init__(
        self,
        channels: int,
        channel_attention: bool = True,
        spatial_attention: bool = True,
        attention_order: Literal["channel_spatial", "spatial_channel"] = "channel_spatial",
        dynamic_calibration: bool = True,
        calibration_map: bool = True,
    ):
        super().__init__()
        if attention_order not in ("channel_spatial", "spatial_channel"):
            raise ValueError(f"attention_order is channel_spatial or spatial_channel, got {attention_order!r}")
        # with ReLU or fewer hidden units some were dead from the start
        hidden = max(channels // self.reduction, self.smallest_hidden)
        self.mlp = (
            nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, channels, 1))
            if channel_attention
            else None
        )
        self.position = nn.Conv2d(1, 1, 1) if spatial_attention else None
        self.spatial_first = attention_order == "spatial_channel"
        self.omega_max = nn.Parameter(torch.tensor(0.5)) if dynamic_calibration else 1.0
        self.omega_avg = nn.Parameter(torch.tensor(0.5)) if dynamic_calibration else 1.0
        self.calibrate = nn.Conv2d(channels, 1, 1) if calibration_map else None
        self.block = ConvBlock(channels, channels)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        calibrated = self.omega_max * self._branch(h, torch.amax) + self.omega_avg * self._branch(h, torch.mean)
        if self.calibrate is None:
            return self.block(calibrated)
        return self.block(torch.sigmoid(self.calibrate(calibrated)) * h)

    def _branch(self, h: torch.Tensor, pool) -> torch.Tensor:
        """O_p of one branch; ``pool`` is amax or mean."""
        attentions = (self._spatial, self._channel) if self.spatial_first else (self._channel, self._spatial)
        for attention in attentions:
            h = attention(h, pool)
        return h

    def _channel(self, h: torch.Tensor, pool) -> torch.Tensor:
        return h if self.mlp is None else torch.sigmoid(self.mlp(pool(h, dim=(2, 3), keepdim=True))) * h

    def _spatial(self, m: torch.Tensor, pool) -> torch.Tensor:
        return m if self.position is None else torch.sigmoid(self.position(pool(m, dim=1, keepdim=True))) * m


class HierarchicalAttentionalPerception(nn.Module):
    """HAP: an embedding of its own and four stages of attention blocks.

    The embedding (two convolutions of stride 2, C/2 and C channels) and the transitions between stages (one convolution
    of stride 2) are not specified in the paper. Two blocks a stage meet the published cost of this stream.

    Args:
        input_channels: channels of the image.
        features_per_stage: widths of the stages, finest first.
        blocks_per_stage: attention blocks in each.
        attention: keyword arguments of :class:`HierarchicalAttentionBlock`.

    Raises:
        ValueError: if there is not at least one block a stage.
    """

    def __init__(self, input_channels: int, features_per_stage: Sequence[int], blocks_per_stage: int, attention: dict):
        super().__init__()
        if blocks_per_stage < 1:
            raise ValueError(f"blocks_per_stage is at least 1, got {blocks_per_stage}")
        first = features_per_stage[0]
        embedding = nn.Sequential(
            ConvNormGelu(input_channels, first // 2, stride=2), ConvNormGelu(first // 2, first, stride=2)
        )
        pairs = zip(features_per_stage, features_per_stage[1:], strict=False)
        self.entries = nn.ModuleList([embedding, *(ConvNormGelu(fine, deep, stride=2) for fine, deep in pairs)])
        self.stages = nn.ModuleList(
            nn.Sequential(*(HierarchicalAttentionBlock(width, **attention) for _ in range(blocks_per_stage)))
            for width in features_per_stage
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map (B, input_channels, H, W) to features (B, C_i, H/2^(i+1), W/2^(i+1)), i = 1 to the number of stages."""
        features = []
        for entry, stage in zip(self.entries, self.stages, strict=True):
            x = stage(entry(x))
            features.append(x)
        return features
