"""Frequency gating unit (FGU) of SFMANet, equations 8-14."""

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.convolution import convolve
from nnunet_sfma.networks.half_precision import at_least_float32, saturate, without_autocast
from nnunet_sfma.networks.linear_chains import dense, then_pointwise
from nnunet_sfma.networks.row_blocks import in_row_blocks


class ChannelPermutation(nn.Module):
    """Perm of equations 10 and 14: a random channel order, drawn once.

    The order is a buffer, so it is saved with the weights, and it is drawn from the given generator, so the global
    random state neither shapes it nor is changed by it. Drawing anew in each forward pass would scramble a trained
    network.

    Args:
        channels: length of the channel axis.
        generator: where the order is drawn from.
    """

    def __init__(self, channels: int, generator: torch.Generator):
        super().__init__()
        self.register_buffer("order", torch.randperm(channels, generator=generator, device="cpu"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reorder axis 1 of (B, C, H, W)."""
        return x.index_select(1, self.order)


class FrequencyGatingUnit(nn.Module):
    """FGU: splits the channels into a high and a low frequency part, transforms each and fuses them, equations 8-14.

    ::

        U, L = first alpha*C and remaining channels                                   (8)
        U' = Conv1x1(U) to alpha*C/s;  L' = Conv1x1(L) to (1-alpha)*C/s               (9)
        U'' = Perm(U');  L'' = Perm(L')                                               (10)
        Y1 = GC3x3(U'') + PC1(U'')                   C channels                       (11)
        Y2 = Cat[PC2(L''), L'']                      C channels                       (12)
        Y3 = Cat[Y1, Y2];  W = softmax(GAP(Y3)) over the 2C channels;  Y3' = W * Y3   (13)
        Out_C = Perm(O1) + Perm(O2), O1 and O2 the halves of Y3'                      (14)

    No Fourier transform is involved: "frequency" names the two groups of channels. A permutation in front of a dense
    1x1 convolution is absorbed by its weights; it matters for the grouped convolution and in equation 14.

    The softmax weights average 1/(2C) and nothing normalises behind them. Taken literally Out_C is 0.06 to 0.5 % of X
    and its gradients fall below Adam's epsilon: the path starves. ``rescale`` multiplies the weights by 2C; as only
    linear maps follow in SFMANet, that is a re-parameterisation and not another function class. A weight can then reach
    2C, so weighting and sum are taken in float32 and saturate where the network runs in float16.

    Args:
        channels: C.
        alpha: share of the high frequency part; the paper compares 0.25, 0.5 and 0.75.
        squeeze: s of equation 9.
        groups: G of equation 11.
        rescale: multiply the softmax weights by 2C; False is equation 13 to the letter.
        seed: of the four permutations.

    Raises:
        ValueError: if the widths do not come out whole or the groups do not divide them.
    """

    def __init__(
        self,
        channels: int,
        alpha: float = 0.5,
        squeeze: int = 2,
        groups: int = 4,
        rescale: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        high = round(alpha * channels)
        low = channels - high
        self._check(channels, alpha, high, low, squeeze, groups)
        self.split = [high, low]
        self.rescale = rescale
        high_squeezed, low_squeezed = high // squeeze, low // squeeze
        self.squeeze_high = nn.Conv2d(high, high_squeezed, 1, bias=False)
        self.squeeze_low = nn.Conv2d(low, low_squeezed, 1, bias=False)
        self.group_conv = nn.Conv2d(high_squeezed, channels, 3, padding=1, groups=groups)
        self.point_conv_high = nn.Conv2d(high_squeezed, channels, 1, bias=False)
        self.point_conv_low = nn.Conv2d(low_squeezed, channels - low_squeezed, 1, bias=False)
        generator = torch.Generator().manual_seed(seed)
        self.permute_high = ChannelPermutation(high_squeezed, generator)
        self.permute_low = ChannelPermutation(low_squeezed, generator)
        self.permute_first = ChannelPermutation(channels, generator)
        self.permute_second = ChannelPermutation(channels, generator)

    @staticmethod
    def _check(channels: int, alpha: float, high: int, low: int, squeeze: int, groups: int) -> None:
        if not 0 < alpha < 1 or abs(high - alpha * channels) > 1e-6:
            raise ValueError(f"alpha * channels must be a whole number of channels, got alpha={alpha}, C={channels}")
        if high % squeeze or low % squeeze:
            raise ValueError(f"the squeeze {squeeze} must divide both parts, got {high} + {low} of {channels} channels")
        if (high // squeeze) % groups or channels % groups:
            raise ValueError(
                f"the {groups} groups must divide alpha*C/s = {high // squeeze} and C = {channels}: "
                f"with alpha 0.5 take C % 16 == 0, with 0.25 or 0.75 C % 32 == 0"
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to Out_C of the same shape."""
        first, second, weights = self._permuted_parts(x)
        return in_row_blocks(self._weighted_sum, first, second, weights.expand(-1, -1, x.shape[2], -1))

    def channel_weights(self, x: torch.Tensor) -> torch.Tensor:
        """W of equation 13 for X, (B, C, H, W) to (B, 2, C): of the channels of Y1 and of Y2."""
        of_first, of_second = self._permuted_parts(x)[2].flatten(1).chunk(2, dim=1)
        orders = self.permute_first.order, self.permute_second.order
        back = [part[:, order.argsort()] for part, order in zip((of_first, of_second), orders, strict=True)]
        return torch.stack(back, dim=1)

    def _permuted_parts(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Perm(Y1), Perm(Y2) and their weights (B, 2C, 1, 1)."""
        high, low = x.split(self.split, dim=1)
        with without_autocast(x):
            squeeze, weight, bias, whole_low = self._merged()
        first = convolve(convolve(high, squeeze), weight, bias)
        second = convolve(low, whole_low)
        wide = torch.promote_types(first.dtype, torch.float32)
        # no mean: its gradient is a map that is written out, that of a sum is one number for all positions
        sums = [part.sum((2, 3), keepdim=True, dtype=wide) for part in (first, second)]
        weights = (torch.cat(sums, dim=1) / (x.shape[2] * x.shape[3])).softmax(dim=1)
        if self.rescale:
            weights = weights * weights.shape[1]
        return first, second, weights

    @staticmethod
    def _weighted_sum(first: torch.Tensor, second: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Equation 14 of the permuted halves of Y3 and the weights (B, 2C, H, 1)."""
        of_first, of_second = weights.chunk(2, dim=1)
        out = torch.addcmul(at_least_float32(first) * of_first, at_least_float32(second), of_second)
        return saturate(out, first.dtype)

    def _merged(self) -> tuple[torch.Tensor, ...]:
        """Squeeze of U; weight and bias from there to Perm(Y1); weight from L to Perm(Y2)."""
        squeeze = self.squeeze_high.weight[self.permute_high.order]
        weight = dense(self.group_conv) + F.pad(self.point_conv_high.weight, (1, 1, 1, 1))
        order = self.permute_first.order
        squeeze_low = self.squeeze_low.weight[self.permute_low.order]
        point_low, _ = then_pointwise(squeeze_low, None, self.point_conv_low.weight.flatten(1))
        whole_low = torch.cat([point_low, squeeze_low])[self.permute_second.order]
        return squeeze, weight[order], self.group_conv.bias[order], whole_low
