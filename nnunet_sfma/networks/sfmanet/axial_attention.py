"""Axial attention, the CAA and RAA of SFMANet's equation 23."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.recomputation import recomputed


class AxialAttention(nn.Module):
    """Self-attention of each position with the positions in its own column, or in its own row.

    ``softmax(q k^T / sqrt(d)) v`` along one axis, one head, q and k of C/8 channels, v of C channels. The text gives no
    scale; without one the logits grow with C. There is no positional encoding, no output projection and no residual:
    the one residual of the module is the outer one. The key has no bias, because softmax cancels it exactly.

    Memory stays linear in the number of positions. On the CPU PyTorch's fused kernel wants q and v of one width, so a few
    lines at a time are attended by plain operations, and again in the backward pass. Elsewhere the fused kernel works:
    the other axis takes the place of the heads, so that no batch of B*W sequences is formed, whose number such kernels
    limit, and each position's channels lie side by side in memory. The softmax is taken in float32.

    Args:
        channels: C, a multiple of 8.
        axis: "column" attends along H, "row" along W.

    Raises:
        ValueError: if the channels are not a multiple of 8.
    """

    chunk = 1 << 20  # attention weights at a time

    def __init__(self, channels: int, axis: Literal["column", "row"]):
        super().__init__()
        if channels % 8:
            raise ValueError(f"axial attention uses C/8 query channels, got {channels} channels")
        self.axis = axis
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        lines = x.permute(0, 3, 2, 1) if self.axis == "column" else x.permute(0, 2, 3, 1)
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            attended = self._in_chunks(lines)
        else:
            q, k, v = (F.linear(lines, *self._projection(layer)) for layer in (self.query, self.key, self.value))
            attended = F.scaled_dot_product_attention(q, k, v)
        return attended.permute(0, 3, 2, 1) if self.axis == "column" else attended.permute(0, 3, 1, 2)

    def _in_chunks(self, lines: torch.Tensor) -> torch.Tensor:
        """Attention within each line of (B, lines, length, C), for as many lines at a time as caches hold."""
        layers = (self.query, self.key, self.value)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([self.query.bias, torch.zeros_like(self.query.bias), self.value.bias])
        number = max(1, self.chunk // lines.shape[2] ** 2)
        chunks = lines.flatten(0, 1).split(number) 
        return torch.cat([recomputed(self._attend, chunk, weight, bias) for chunk in chunks]).view(lines.shape)

    def _attend(self, lines: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Attention within each line of (lines, length, C)."""
        width = self.query.out_channels
        projected = F.conv2d(lines.permute(2, 0, 1)[None], weight, bias)[0].permute(1, 2, 0)
        q, k, v = projected.split([width, width, lines.shape[2]], dim=2)
        return (q * width**-0.5 @ k.mT).softmax(dim=2) @ v

    @staticmethod
    def _projection(layer: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor | None]:
        return layer.weight.flatten(1), layer.bias
