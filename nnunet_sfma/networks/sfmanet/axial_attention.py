"""Axial attention, the CAA and RAA of SFMANet's equation 23."""

from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.convolution import convolve
from nnunet_sfma.networks.layout import is_full_precision_on_cpu
from nnunet_sfma.networks.row_blocks import in_row_blocks

WEIGHTS = 1 << 21  # of the attention at a time on a CPU


class AxialAttention(nn.Module):
    """Self-attention of each position with the positions in its own column, or in its own row.

    ``softmax(q k^T / sqrt(d)) v`` along one axis, one head, q and k of C/8 channels, v of C channels. The text gives no
    scale; without one the logits grow with C. There is no positional encoding, no output projection and no residual:
    the one residual of the module is the outer one. The key has no bias, because softmax cancels it exactly.

    Memory stays linear in the number of positions. On the CPU PyTorch's fused kernel wants q and v of one width, so a
    few lines at a time are attended by plain operations, and again in the backward pass. Elsewhere that kernel works:
    the other axis takes the place of the heads, so that no batch of B*W sequences is formed, whose number such kernels
    limit, and each position's channels lie side by side in memory. The softmax is taken in float32.

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
        if self.axis == "column":
            return self._along_rows(x.transpose(2, 3)).transpose(2, 3)
        return self._along_rows(x)

    def _along_rows(self, x: torch.Tensor) -> torch.Tensor:
        layers = (self.query, self.key, self.value)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([self.query.bias, torch.zeros_like(self.query.bias), self.value.bias])
        if not is_full_precision_on_cpu(x):
            q, k, v = (part.permute(0, 2, 3, 1).contiguous() for part in self._project(x, weight, bias))
            return F.scaled_dot_product_attention(q, k, v).permute(0, 3, 1, 2)
        rows = max(1, WEIGHTS // x.shape[3] ** 2)
        return in_row_blocks(partial(self._attend, weight=weight, bias=bias), x, rows=rows)

    def _attend(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Attention within each row of (1, C, rows, W)."""
        q, k, v = (part[0].permute(1, 2, 0) for part in self._project(x, weight, bias))
        attention = (q * q.shape[2] ** -0.5 @ k.mT).softmax(dim=2)
        return (attention @ v)[None].permute(0, 3, 1, 2)

    def _project(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
        width = self.query.out_channels
        return convolve(x, weight, bias).split([width, width, x.shape[1]], dim=1)
