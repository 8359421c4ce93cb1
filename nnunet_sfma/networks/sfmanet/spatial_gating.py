"""Spatial gating unit (SGU) of SFMANet, equations 1-7."""

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nnunet_sfma.networks.convolution import convolve, gradients
from nnunet_sfma.networks.half_precision import at_least_float32, without_autocast
from nnunet_sfma.networks.layout import is_full_precision_on_cpu
from nnunet_sfma.networks.linear_chains import then_pointwise
from nnunet_sfma.networks.row_blocks import empty_like, in_row_blocks, row_blocks


class SpatialGroupNorm(nn.GroupNorm):
    """SGN, equations 1-3, with one spatial group (Gs = 1), which makes it group normalisation.

    The paper leaves Gs open; more than one spatial group would need divisible sides and show tile borders. Equations 1
    and 3 both add epsilon: it is added once. Sixteen channel groups where the width allows it, else four channels a
    group: with a single channel in a group the weights of equation 4 would always be 1 and the equation would vanish.

    Args:
        channels: C; a multiple of 16 from 64 on, below that of C // 4.

    Raises:
        ValueError: if the channels do not divide into the groups.
    """

    def __init__(self, channels: int):
        groups = 16 if channels >= 64 else max(1, channels // 4)
        if channels % groups:
            raise ValueError(f"spatial gating needs a width that {groups} groups divide, got {channels} channels")
        super().__init__(groups, channels, eps=1e-5)

    def correlation_weights(self) -> torch.Tensor:
        """Equation 4: how important each channel is within its channel group, shape (C,), about 1.

        ``w_i = gamma_i / (mean_j |gamma_j| + 1e-3) + beta_i / (mean_j |beta_j| + 1)``, j over the group of i.

        The printed ratios divide by beta_j, which is 0 at the start (0/0) and tiny later on (gradients of 1e5). Means
        of absolute values do not cancel; a mean instead of a sum keeps w near 1, where the gate's sigmoid is neither
        flat nor saturated; the 1 under beta bounds its gradient, where a small epsilon would move the blow-up to it.
        """
        gamma = at_least_float32(self.weight).view(self.num_groups, -1)
        beta = at_least_float32(self.bias).view(self.num_groups, -1)
        gamma_share = gamma / (gamma.abs().mean(1, keepdim=True) + 1e-3)
        beta_share = beta / (beta.abs().mean(1, keepdim=True) + 1.0)
        return (gamma_share + beta_share).flatten()


class SpatialGatingUnit(nn.Module):
    """SGU: separates informative from redundant positions and crosses the two, equations 1-7.

    ::

        Y = SGN(X);  R = sigmoid(w * Y)                                     (1-5)
        W1 = 1 where R > t else R;  W2 = 0 where R > t else R
        X1 = W1 * X;  X2 = W2 * X
        A = sigmoid(Conv1x1(Conv3x3(X1 + X2)))                              (6)
        Out_S = Cat[(X11 + X22) * A, (X12 + X21) * A]                       (7)

    The gate keeps R, not 0, below the threshold: with hard 0/1 masks X1 + X2 would be X and no gradient would ever
    reach gamma and beta. Equation 7 read literally is 2C wide, which fits neither equation 15 nor 19; the halves are
    crossed and added, as the paper's overview says. Equation 4 reads in equation 5 as if it were a function of SGN(X);
    it is the product. Y, w and R are computed in at least float32 so that half precision cannot flip the gate.

    w multiplies SGN's scale and shift instead of its output. Nothing lies between the two convolutions of equation 6:
    they are computed as one from C channels to 1, which takes C/2 times fewer multiplications.

    Args:
        channels: C, even; see :class:`SpatialGroupNorm`.
        threshold: t, in (0, 1); the paper compares 0.2, 0.5 and 0.8.

    Raises:
        ValueError: if the channels do not divide or the threshold is outside (0, 1).
    """

    def __init__(self, channels: int, threshold: float = 0.5):
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"the gate's threshold lies between 0 and 1, got {threshold}")
        if channels % 2:
            raise ValueError(f"spatial gating splits its channels into halves, got {channels} channels")
        self.threshold = threshold
        self.norm = SpatialGroupNorm(channels)
        self.attention = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1),
            nn.Conv2d(channels // 2, 1, 1),
            nn.Sigmoid(),
        )

    def gates(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Equation 5: the weights W1 (informative) and W2 (redundant), each (B, C, H, W) in [0, 1], in float32."""
        return _gates(self._weighted_norm(x), self.threshold)

    def attention_map(self, x: torch.Tensor) -> torch.Tensor:
        """A of equation 6 for X, (B, C, H, W) to (B, 1, H, W) in 0 to 1."""
        return _attention(x, self._weighted_norm(x), *self._attention_weights(x), self.threshold)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to Out_S of the same shape."""
        inputs = x, self._weighted_norm(x), *self._attention_weights(x), self.threshold
        return _CrossedOnCPU.apply(*inputs) if is_full_precision_on_cpu(x) else _crossed(*inputs)[0]

    def _weighted_norm(self, x: torch.Tensor) -> torch.Tensor:
        """w * SGN(X), whose sigmoid is R."""
        w = self.norm.correlation_weights()
        gamma, beta = w * at_least_float32(self.norm.weight), w * at_least_float32(self.norm.bias)
        return F.group_norm(at_least_float32(x), self.norm.num_groups, gamma, beta, self.norm.eps)

    def _attention_weights(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (1, C, 3, 3) and bias (1,) of the two convolutions of equation 6."""
        conv, pointwise, _ = self.attention
        with without_autocast(x):
            return then_pointwise(conv.weight, conv.bias, pointwise.weight.flatten(1), pointwise.bias)


class _CrossedOnCPU(torch.autograd.Function):
    """Equations 5-7; the backward pass reads the maps twice.

    With G = A * dOut and S the gradient of X1 + X2 in equation 6, ``dX1 = G + S``, ``dX2 = cross(G) + S``,
    ``dX = W1 * dX1 + W2 * dX2`` and ``dY = X * (dX1 + dX2) * W2 * (1 - W2)``: W2 is R or 0.
    """

    @staticmethod
    def forward(
        ctx, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, threshold: float
    ) -> torch.Tensor:
        out, attention = _crossed(x, y, weight, bias, threshold)
        ctx.save_for_backward(x, y, weight, attention)
        ctx.threshold = threshold
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y, weight, attention = ctx.saved_tensors
        sums, of_attention = empty_like(x), empty_like(attention)
        for of_out, rows, of_rows, sum_, of_a in row_blocks(grad, x, y, sums, of_attention):
            x1, x2 = _separated(rows, of_rows, ctx.threshold)
            torch.add(x1, x2, out=sum_)
            torch.sum(_cross(x1, x2) * of_out, dim=1, keepdim=True, out=of_a)
        of_attention *= attention * (1 - attention)
        of_sums, *of_layer = gradients(sums, weight, of_attention, (True, *ctx.needs_input_grad[2:4]))
        of_x, of_y = empty_like(x), empty_like(y)
        for of_out, a, of_sum, rows, y_rows, of_rows, of_y_rows in row_blocks(
            grad, attention, of_sums, x, y, of_x, of_y
        ):
            w1, w2 = _gates(y_rows, ctx.threshold)
            g = of_out * a
            of_x1, of_x2 = g + of_sum, _roll(g) + of_sum
            torch.addcmul(w1 * of_x1, w2, of_x2, out=of_rows)
            torch.mul(of_x1.add_(of_x2).mul_(rows), torch.addcmul(w2, w2, w2, value=-1), out=of_y_rows)
        return of_x, of_y, *of_layer, None


def _crossed(
    x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Out_S of equation 7 and A."""

    def crossed(x: torch.Tensor, y: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        return _cross(*_separated(x, y, threshold)) * attention

    attention = _attention(x, y, weight, bias, threshold)
    return in_row_blocks(crossed, x, y, attention), attention


def _attention(
    x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, threshold: float
) -> torch.Tensor:
    """A of equation 6."""
    sums = in_row_blocks(lambda x, y: torch.add(*_separated(x, y, threshold)), x, y)
    return torch.sigmoid(convolve(sums, weight, bias))


def _separated(x: torch.Tensor, y: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """X1 and X2."""
    w1, w2 = _gates(y, threshold)
    return w1.to(x.dtype) * x, w2.to(x.dtype) * x


def _gates(y: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """W1 and W2 by arithmetic, which a CPU does many times faster than choosing by a mask."""
    r = torch.sigmoid(y)
    informative = F.threshold(r.detach(), threshold, 0.0).sign()
    w2 = torch.addcmul(r, r, informative, value=-1)
    return w2 + informative, w2


def _cross(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """Cat[X11 + X22, X12 + X21]."""
    return x1 + _roll(x2)


def _roll(x: torch.Tensor) -> torch.Tensor:
    """The halves of the channels exchanged."""
    return torch.roll(x, x.shape[1] // 2, dims=1)
