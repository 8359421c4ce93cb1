"""Spatial gating unit (SGU) of SFMANet, equations 1-7."""

from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.half_precision import at_least_float32

WeightName = Literal["group_mean", "group_sum", "channel_sum"]
GateName = Literal["kept", "disjoint"]


class SpatialGroupNorm(nn.GroupNorm):
    """SGN, equations 1-3, and the weights that equation 4 draws from its scale and shift.

    The paper leaves the number of spatial groups Gs open; more than one would need divisible sides and show tile
    borders, so Gs = 1, which is group normalisation. Equations 1 and 3 both add epsilon: it is added once. Sixteen
    channel groups where the width allows it, else four channels a group: with a single channel in a group the weights
    of equation 4 would always be 1 and the equation would vanish.

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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, H, W) in at least float32."""
        weight, bias = at_least_float32(self.weight), at_least_float32(self.bias)
        return F.group_norm(at_least_float32(x), self.num_groups, weight, bias, self.eps)

    def correlation_weights(self, form: WeightName = "group_mean", with_beta: bool = True) -> torch.Tensor:
        """Equation 4: how important each channel is beside the others, shape (C,).

        ``w_i = gamma_i / (mean_j |gamma_j| + 1e-3) + beta_i / (mean_j |beta_j| + 1)``; the second term is left out
        without beta. "group_mean" takes j over the group of i, which keeps w near 1, where the gate's sigmoid is
        neither flat nor saturated; "group_sum" divides that by the number of channels in the group, as a sum in the
        denominator does, and "channel_sum" takes all C channels for the group.

        The printed ratios divide by each beta_j, which is 0 at the start (0/0) and tiny later on (gradients of 1e5).
        Absolute values do not cancel; the 1 under beta bounds its gradient, where a small epsilon would move the
        blow-up to it.
        """
        groups = 1 if form == "channel_sum" else self.num_groups
        gamma = at_least_float32(self.weight).view(groups, -1)
        beta = at_least_float32(self.bias).view(groups, -1)
        weights = gamma / (gamma.abs().mean(1, keepdim=True) + 1e-3)
        if with_beta:
            weights = weights + beta / (beta.abs().mean(1, keepdim=True) + 1.0)
        return weights.flatten() / (1 if form == "group_mean" else gamma.shape[1])


class Gate(nn.Module):
    """Gate of equation 5: R, in 0 to 1, makes the weights of informative and of redundant positions.

    ::

        "kept":      W1 = 1 where R > t else R;    W2 = 0 where R > t else R
        "disjoint":  W1 = R where R > t else 0;    W2 = 0 where R > t else R

    Both keep R, and with it the gradient of gamma and beta, where hard 0/1 masks would make X1 + X2 in equation 6 the
    ungated X.

    Args:
        threshold: t, in (0, 1).
        kind: "kept" as the public ancestor of this unit does it, or "disjoint", the plainest reading of the text.

    Raises:
        ValueError: if the threshold is outside (0, 1) or the kind is neither.
    """

    def __init__(self, threshold: float = 0.5, kind: GateName = "kept"):
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"the gate's threshold lies between 0 and 1, got {threshold}")
        if kind not in get_args(GateName):
            raise ValueError(f"sgu_gate is {' or '.join(get_args(GateName))}, got {kind!r}")
        self.threshold = threshold
        self.kind = kind

    def forward(self, r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map R (B, C, H, W) to W1 and W2 of the same shape."""
        informative = r > self.threshold
        w1 = torch.where(informative, 1.0, r) if self.kind == "kept" else torch.where(informative, r, 0.0)
        w2 = torch.where(informative, 0.0, r)
        return w1, w2


class SpatialGatingUnit(nn.Module):
    """SGU: separates informative from redundant positions and crosses the two, equations 1-7.

    ::

        Y = SGN(X);  R = sigmoid(w * Y)                                     (1-5)
        W1, W2 = Gate(R);  X1 = W1 * X;  X2 = W2 * X
        A = sigmoid(Conv1x1(Conv3x3(X1 + X2)))                              (6)
        Out_S = Cat[(X11 + X22) * A, (X12 + X21) * A]                       (7)

    Equation 7 read literally is 2C wide, which fits neither equation 15 nor 19; the halves are crossed and added, as
    the paper's overview says. Equation 4 reads in equation 5 as if it were a function of SGN(X); it is the product. Y,
    w and R are computed in at least float32, so that half precision rounds X before the gate but nothing within it. By
    that a position whose R lies near t may change sides; at the start of a training fewer than 0.1 % of them did in
    float16, and 0.3 to 0.5 % in bfloat16.

    Args:
        channels: C, even; see :class:`SpatialGroupNorm`.
        threshold: t, in (0, 1); the paper compares 0.2, 0.5 and 0.8.
        weight: the form of equation 4, see :meth:`SpatialGroupNorm.correlation_weights`.
        beta: whether equation 4 has its second term.
        gate: see :class:`Gate`.

    Raises:
        ValueError: if the channels do not divide, the threshold is outside (0, 1) or a form is unknown.
    """

    def __init__(
        self,
        channels: int,
        threshold: float = 0.5,
        weight: WeightName = "group_mean",
        beta: bool = True,
        gate: GateName = "kept",
    ):
        super().__init__()
        if channels % 2:
            raise ValueError(f"spatial gating splits its channels into halves, got {channels} channels")
        if weight not in get_args(WeightName):
            raise ValueError(f"sgu_weight is {', '.join(get_args(WeightName))}, got {weight!r}")
        self.weight_form = weight
        self.with_beta = beta
        self.norm = SpatialGroupNorm(channels)
        self.gate = Gate(threshold, gate)
        self.attention = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1),
            nn.Conv2d(channels // 2, 1, 1),
            nn.Sigmoid(),
        )

    def correlation_weights(self) -> torch.Tensor:
        """w of equation 4, shape (C,)."""
        return self.norm.correlation_weights(self.weight_form, self.with_beta)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to Out_S of the same shape."""
        y = self.norm(x)  # (1)-(3)
        r = torch.sigmoid(self.correlation_weights()[:, None, None] * y)  # (4), (5)
        w1, w2 = self.gate(r)
        x1, x2 = w1.to(x.dtype) * x, w2.to(x.dtype) * x
        a = self.attention(x1 + x2)  # (6)
        x11, x12 = x1.chunk(2, dim=1)
        x21, x22 = x2.chunk(2, dim=1)
        return torch.cat([(x11 + x22) * a, (x12 + x21) * a], dim=1)  # (7)
