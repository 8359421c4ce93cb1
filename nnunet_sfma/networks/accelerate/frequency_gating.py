"""The fast twin of SFMANet's frequency gating unit."""

import torch
from torch.nn import functional as F

from nnunet_sfma.networks.accelerate.convolution import convolve
from nnunet_sfma.networks.accelerate.linear_chains import dense, then_pointwise
from nnunet_sfma.networks.accelerate.row_blocks import in_row_blocks
from nnunet_sfma.networks.half_precision import at_least_float32, saturate, without_autocast
from nnunet_sfma.networks.sfmanet.frequency_gating import FrequencyGatingUnit


class FastFrequencyGatingUnit(FrequencyGatingUnit):
    """Stands for :class:`FrequencyGatingUnit`.

    The permutations reorder weights instead of maps, the grouped and the pointwise convolution of equation 11 are one
    dense convolution, and the lower path's are one as well: three convolutions in place of five and four copies.

    Gives up: hooks on the convolutions and permutations; on a CPU the second derivative.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to Out_C of the same shape."""
        first, second = self._permuted_parts(x)
        weights = self._weights(first, second)
        return in_row_blocks(_weighted_sum, first, second, weights.expand(-1, -1, x.shape[2], -1))

    def _permuted_parts(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Perm(Y1) and Perm(Y2)."""
        high, low = x.split(self.split, dim=1)
        with without_autocast(x):
            squeeze, weight, bias, whole_low = self._merged()
        return convolve(convolve(high, squeeze), weight, bias), convolve(low, whole_low)

    def _weights(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Those of equation 13 for the permuted parts, (B, 2C, 1, 1)."""
        wide = torch.promote_types(first.dtype, torch.float32)
        # no mean: its gradient is a map that is written out, that of a sum is one number for all positions
        sums = [part.sum((2, 3), keepdim=True, dtype=wide) for part in (first, second)]
        weights = (torch.cat(sums, dim=1) / (first.shape[2] * first.shape[3])).softmax(dim=1)
        return weights * weights.shape[1] if self.weigh.rescale else weights

    def _merged(self) -> tuple[torch.Tensor, ...]:
        """Squeeze of U; weight and bias from there to Perm(Y1); weight from L to Perm(Y2)."""
        squeeze = self.squeeze_high.weight[self.permute_high.order]
        weight = dense(self.group_conv) + F.pad(self.point_conv_high.weight, (1, 1, 1, 1))
        order = self.permute_first.order
        squeeze_low = self.squeeze_low.weight[self.permute_low.order]
        point_low, _ = then_pointwise(squeeze_low, None, self.point_conv_low.weight.flatten(1))
        whole_low = torch.cat([point_low, squeeze_low])[self.permute_second.order]
        return squeeze, weight[order], self.group_conv.bias[order], whole_low


def _weighted_sum(first: torch.Tensor, second: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Equation 14 of the permuted halves of Y3 and the weights (B, 2C, H, 1)."""
    of_first, of_second = weights.chunk(2, dim=1)
    out = torch.addcmul(at_least_float32(first) * of_first, at_least_float32(second), of_second)
    return saturate(out, first.dtype)
