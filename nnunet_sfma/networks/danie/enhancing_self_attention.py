"""Enhancing self-attentional perceptron (ES) of DANIE's joint preservation, equations 6-7."""

import torch
from torch import nn

from nnunet_sfma.networks.half_precision import at_least_float32, without_autocast


class EnhancingSelfAttention(nn.Module):
    """ES: attention between the channels of the self-attentional stream, equations 6-7.

    With S as C rows s_j of N = H W numbers::

        w_ij = exp(s_i . s_j) / sum_i exp(s_i . s_j)       (6)
        es_j = lambda sum_i w_ij s_i + s_j                 (7)

    Each target j has weights that sum to 1 over the sources i. The paper prints s_j under the sum of equation 7; then
    the sum would be s_j itself and the unit one gain for all channels. lambda starts at 0, so at first ES passes S
    through.

    The products s_i . s_j grow with N: they leave float16's range and make the softmax nearly pick the strongest
    channel. The first is met by computing both equations in at least float32 under autocast, too; the second is what
    the equations say and stays, with ``scale`` as a way out. :meth:`weights` shows what happens.

    Args:
        scale: factor of s_i . s_j, above 0; None is the equation as printed.

    Raises:
        ValueError: if the scale is no such number.
    """

    def __init__(self, scale: float | None = None):
        super().__init__()
        if scale is not None and not _is_factor(scale):
            raise ValueError(f"es_scale is a number above 0 or null, got {scale!r}")
        self.scale = scale
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape and type."""
        with without_autocast(s):
            rows = at_least_float32(s).flatten(2)
            mixed = (self._weights(rows) @ rows).view(s.shape)
            return (self.gain * mixed + s).to(s.dtype)

    def weights(self, s: torch.Tensor) -> torch.Tensor:
        """Equation 6 for a feature (B, C, H, W): (B, C, C), target j in the rows, source i in the columns."""
        with without_autocast(s):
            return self._weights(at_least_float32(s).flatten(2))

    def _weights(self, rows: torch.Tensor) -> torch.Tensor:
        products = rows @ rows.mT
        if self.scale is not None:
            products = products * self.scale
        return products.softmax(dim=-1)


def _is_factor(scale: object) -> bool:
    return isinstance(scale, (int, float)) and not isinstance(scale, bool) and 0 < scale < float("inf")
