"""The fast twin of SFMANet's spatial gating unit."""

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nnunet_sfma.networks.accelerate.convolution import convolve, gradients
from nnunet_sfma.networks.accelerate.layout import is_full_precision_on_cpu
from nnunet_sfma.networks.accelerate.linear_chains import then_pointwise
from nnunet_sfma.networks.accelerate.row_blocks import empty_like, in_row_blocks, row_blocks
from nnunet_sfma.networks.half_precision import at_least_float32, without_autocast
from nnunet_sfma.networks.sfmanet.spatial_gating import SpatialGatingUnit


class FastSpatialGatingUnit(SpatialGatingUnit):
    """Stands for :class:`SpatialGatingUnit`.

    w multiplies SGN's scale and shift instead of its output. Nothing lies between the two convolutions of equation 6:
    they are computed as one from C channels to 1, which takes C/2 times fewer multiplications. On a CPU the maps of
    equations 5 to 7 are never written out, and their gradients take two readings of X and Y.

    Gives up: hooks on SGN, gate and convolutions; on a CPU the second derivative.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to Out_S of the same shape."""
        gate = self.gate.threshold, self.gate.kind == "disjoint"
        inputs = x, self._weighted_norm(x), *self._attention_weights(x), *gate
        return _CrossedOnCPU.apply(*inputs) if is_full_precision_on_cpu(x) else _crossed(*inputs)[0]

    def _weighted_norm(self, x: torch.Tensor) -> torch.Tensor:
        """w * SGN(X), whose sigmoid is R."""
        w = self.correlation_weights()
        gamma, beta = w * at_least_float32(self.norm.weight), w * at_least_float32(self.norm.bias)
        return F.group_norm(at_least_float32(x), self.norm.num_groups, gamma, beta, self.norm.eps)

    def _attention_weights(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (1, C, 3, 3) and bias (1,) of the two convolutions of equation 6."""
        conv, pointwise, _ = self.attention
        with without_autocast(x):
            return then_pointwise(conv.weight, conv.bias, pointwise.weight.flatten(1), pointwise.bias)


class _CrossedOnCPU(torch.autograd.Function):
    """Equations 5-7; the backward pass reads the maps twice.

    With G = A * dOut and S the gradient of X1 + X2 in equation 6, ``dX1 = G + S``, ``dX2 = cross(G) + S`` and
    ``dX = W1 * dX1 + W2 * dX2``. W2 is R or 0, so that ``dY = X * (dX1 + dX2) * W2 * (1 - W2)`` where W1 is R or 1;
    where it is R or 0, ``dY = X * (dX1 * W1 * (1 - W1) + dX2 * W2 * (1 - W2))``.
    """

    @staticmethod
    def forward(
        ctx,
        x: torch.Tensor,
        y: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        threshold: float,
        disjoint: bool,
    ) -> torch.Tensor:
        out, attention = _crossed(x, y, weight, bias, threshold, disjoint)
        ctx.save_for_backward(x, y, weight, attention)
        ctx.gate = threshold, disjoint
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y, weight, attention = ctx.saved_tensors
        sums, of_attention = empty_like(x), empty_like(attention)
        for of_out, rows, of_rows, sum_, of_a in row_blocks(grad, x, y, sums, of_attention):
            x1, x2 = _separated(rows, of_rows, *ctx.gate)
            torch.add(x1, x2, out=sum_)
            torch.sum(_cross(x1, x2) * of_out, dim=1, keepdim=True, out=of_a)
        of_attention *= attention * (1 - attention)
        of_sums, *of_layer = gradients(sums, weight, of_attention, (True, *ctx.needs_input_grad[2:4]))
        of_x, of_y = empty_like(x), empty_like(y)
        for of_out, a, of_sum, rows, y_rows, of_rows, of_y_rows in row_blocks(
            grad, attention, of_sums, x, y, of_x, of_y
        ):
            w1, w2 = _gates(y_rows, *ctx.gate)
            g = of_out * a
            of_x1, of_x2 = g + of_sum, _roll(g) + of_sum
            torch.addcmul(w1 * of_x1, w2, of_x2, out=of_rows)
            if ctx.gate[1]:
                of_r = of_x1.mul_(_slope(w1)).addcmul_(of_x2, _slope(w2))
            else:
                of_r = of_x1.add_(of_x2).mul_(_slope(w2))
            torch.mul(of_r, rows, out=of_y_rows)
        return of_x, of_y, *of_layer, None, None


def _crossed(
    x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, threshold: float, disjoint: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Out_S of equation 7 and A."""

    def added(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.add(*_separated(x, y, threshold, disjoint))

    def crossed(x: torch.Tensor, y: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        return _cross(*_separated(x, y, threshold, disjoint)) * attention

    attention = torch.sigmoid(convolve(in_row_blocks(added, x, y), weight, bias))  # (6)
    return in_row_blocks(crossed, x, y, attention), attention


def _separated(x: torch.Tensor, y: torch.Tensor, threshold: float, disjoint: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """X1 and X2."""
    w1, w2 = _gates(y, threshold, disjoint)
    return w1.to(x.dtype) * x, w2.to(x.dtype) * x


def _gates(y: torch.Tensor, threshold: float, disjoint: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """W1 and W2 by arithmetic, which a CPU does many times faster than choosing by a mask."""
    r = torch.sigmoid(y)
    informative = F.threshold(r.detach(), threshold, 0.0).sign()
    w2 = torch.addcmul(r, r, informative, value=-1)
    return r * informative if disjoint else w2 + informative, w2


def _slope(w: torch.Tensor) -> torch.Tensor:
    """The derivative of the sigmoid by its value."""
    return torch.addcmul(w, w, w, value=-1)


def _cross(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """Cat[X11 + X22, X12 + X21]."""
    return x1 + _roll(x2)


def _roll(x: torch.Tensor) -> torch.Tensor:
    """The halves of the channels exchanged."""
    return torch.roll(x, x.shape[1] // 2, dims=1)
