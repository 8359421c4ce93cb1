"""Axial attention, the CAA and RAA of SFMANet's equation 23."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F


class AxialAttention(nn.Module):
    """Self-attention of each position with the positions in its own column, or in its own row.

    ``softmax(q k^T / sqrt(d)) v`` along one axis, one head, q and k of C/8 channels, v of C channels. The text gives no
    scale; without one the logits grow with C. There is no positional encoding, no output projection and no residual:
    the one residual of the module is the outer one. The key has no bias, because softmax cancels it exactly.

    The other axis takes the place of the heads, so that no batch of B*W sequences is formed, whose number fused kernels
    limit. They also want each position's channels side by side in memory. PyTorch takes the softmax in float32.

    Args:
        channels: C, a multiple of 8.
        axis: "column" attends along H, "row" along W.

    Raises:
        ValueError: if the channels are not a multiple of 8.
    """

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
        lines = (0, 3, 2, 1) if self.axis == "column" else (0, 2, 3, 1)
        restore = (0, 3, 2, 1) if self.axis == "column" else (0, 3, 1, 2)
        q, k, v = (projection(x).permute(lines).contiguous() for projection in (self.query, self.key, self.value))
        return F.scaled_dot_product_attention(q, k, v).permute(restore)
