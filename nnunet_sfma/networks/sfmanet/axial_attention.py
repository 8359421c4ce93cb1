"""Axial attention, the CAA and RAA of SFMANet's equation 23."""

from typing import Literal

import torch
from torch import nn

from nnunet_sfma.networks.half_precision import at_least_float32, without_autocast


class AxialAttention(nn.Module):
    """Self-attention of each position with the positions in its own column, or in its own row.

    ``softmax(q k^T / sqrt(d)) v`` along one axis, one head, q and k of d = C/8 channels, v of C channels. The text
    gives no scale; without one the logits grow with C. There is no positional encoding and no output projection. The
    one residual of the module is the outer one, unless ``factor`` adds that of the public ancestor. The key has no
    bias, because softmax cancels it exactly. Products and softmax are taken in at least float32.

    Args:
        channels: C, a multiple of 8.
        axis: "column" attends along H, "row" along W.
        scaled: divide the logits by sqrt(d).
        factor: return ``factor * attention(x) + x`` with a learnable factor that starts at 0.

    Raises:
        ValueError: if the channels are not a multiple of 8.
    """

    def __init__(self, channels: int, axis: Literal["column", "row"], scaled: bool = True, factor: bool = False):
        super().__init__()
        if channels % 8:
            raise ValueError(f"axial attention uses C/8 query channels, got {channels} channels")
        self.axis = axis
        self.scale = (channels // 8) ** -0.5 if scaled else 1.0
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1)
        self.factor = nn.Parameter(torch.zeros(())) if factor else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        q, k, v = (self._lines(project(x)) for project in (self.query, self.key, self.value))
        with without_autocast(x):
            weights = (self.scale * q @ k.mT).softmax(dim=-1)
            attended = self._map(weights @ v)
            if self.factor is not None:
                attended = self.factor * attended + x
        return attended.to(x.dtype)

    def _lines(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, W, H, C) for columns, to (B, H, W, C) for rows."""
        return (
            at_least_float32(x).permute(0, 3, 2, 1)
            if self.axis == "column"
            else at_least_float32(x).permute(0, 2, 3, 1)
        )

    def _map(self, lines: torch.Tensor) -> torch.Tensor:
        """The way back of :meth:`_lines`."""
        return lines.permute(0, 3, 2, 1) if self.axis == "column" else lines.permute(0, 3, 1, 2)
