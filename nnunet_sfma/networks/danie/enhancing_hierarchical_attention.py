"""Enhancing hierarchical-attention perception (EH) of DANIE's joint preservation, equations 8-9."""

import torch
from torch import nn

from nnunet_sfma.networks.half_precision import at_least_float32, without_autocast


class EnhancingHierarchicalAttention(nn.Module):
    """EH: one global context per image weighs the channels of the hierarchical stream, equations 8-9.

    ::

        a = softmax over the N positions of Conv1x1(H), one map       A_g = sum_n a_n h_n       (8)
        eh = sigmoid(c_2(GELU(LN(c_1(A_g))))) * H                                                (9)

    The softmax runs over the positions of the one-channel map, before the product. The c_1 of the two equations are
    different layers. That of equation 8 has no bias, because softmax cancels it exactly. On the single position of A_g
    the 1x1 convolutions c_1 (C to C/4, a free choice) and c_2 (back to C) are linear layers, so LN normalises the
    channels of one image and works for a batch of one, unlike a batch normalisation.

    Args:
        channels: C.
    """

    reduction = 4

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // self.reduction
        self.context = nn.Conv2d(channels, 1, 1, bias=False)
        self.integrate = nn.Sequential(
            nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        context = self._context(h).to(self.integrate[0].weight.dtype)
        weights = torch.sigmoid(self.integrate(context))
        return weights[:, :, None, None] * h

    def _context(self, h: torch.Tensor) -> torch.Tensor:
        """A_g, (B, C, H, W) to (B, C); the sum over all positions is taken in at least float32."""
        scores = self.context(h)
        with without_autocast(h):
            attention = at_least_float32(scores).flatten(2).softmax(dim=-1)
            return (at_least_float32(h).flatten(2) @ attention.mT).squeeze(2)
