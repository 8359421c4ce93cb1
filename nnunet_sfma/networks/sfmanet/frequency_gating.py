"""Frequency gating unit (FGU) of SFMANet, equations 8-14."""

import torch
from torch import nn

from nnunet_sfma.networks.half_precision import at_least_float32, saturate


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

    def draw(self, generator: torch.Generator) -> None:
        """Draw another order."""
        self.order.copy_(torch.randperm(len(self.order), generator=generator, device="cpu"))


class ChannelWeights(nn.Module):
    """W of equation 13: the softmax over all channels of their means over the positions, in at least float32.

    Args:
        rescale: multiply by the number of channels, so that the mean weight is 1; False is the equation to the letter.
    """

    def __init__(self, rescale: bool):
        super().__init__()
        self.rescale = rescale

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Map (B, 2C, H, W) to (B, 2C, 1, 1)."""
        weights = at_least_float32(y).mean((2, 3), keepdim=True).softmax(dim=1)
        return weights * y.shape[1] if self.rescale else weights


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
    and the gradients of this path are smaller than those of SGU's by the same factor. ``rescale`` multiplies the
    weights by 2C. Where DMAU's strips follow, which have weights of their own for this path, that is a
    re-parameterisation: the same functions, learned from another start. In a skip without DMAU Out_S and Out_C are
    added as they are, so there it changes what the network can express: their proportion. A weight can reach 2C, so
    weighting and sum are taken in float32 and saturate where the network runs in float16.

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
        high_squeezed, low_squeezed = high // squeeze, low // squeeze
        self.squeeze_high = nn.Conv2d(high, high_squeezed, 1, bias=False)
        self.squeeze_low = nn.Conv2d(low, low_squeezed, 1, bias=False)
        self.group_conv = nn.Conv2d(high_squeezed, channels, 3, padding=1, groups=groups)
        self.point_conv_high = nn.Conv2d(high_squeezed, channels, 1, bias=False)
        self.point_conv_low = nn.Conv2d(low_squeezed, channels - low_squeezed, 1, bias=False)
        self.weigh = ChannelWeights(rescale)
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

    def draw_permutations(self, seed: int) -> None:
        """Draw the four permutations anew, as a unit built with this seed has them."""
        generator = torch.Generator().manual_seed(seed)
        for permutation in (self.permute_high, self.permute_low, self.permute_first, self.permute_second):
            permutation.draw(generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to Out_C of the same shape."""
        high, low = x.split(self.split, dim=1)  # (8)
        high, low = self.squeeze_high(high), self.squeeze_low(low)  # (9)
        high, low = self.permute_high(high), self.permute_low(low)  # (10)
        y1 = self.group_conv(high) + self.point_conv_high(high)  # (11)
        y2 = torch.cat([self.point_conv_low(low), low], dim=1)  # (12)
        y3 = torch.cat([y1, y2], dim=1)
        o1, o2 = (self.weigh(y3) * at_least_float32(y3)).chunk(2, dim=1)  # (13)
        out = self.permute_first(o1) + self.permute_second(o2)  # (14)
        return saturate(out, y3.dtype)
