"""The fast twins of SFMANet's dual-axis multi-scale attention unit and of its strips."""

import torch

from nnunet_sfma.networks.accelerate.convolution import convolve
from nnunet_sfma.networks.accelerate.recomputation import recomputed_if_large
from nnunet_sfma.networks.accelerate.row_blocks import in_row_blocks
from nnunet_sfma.networks.half_precision import at_least_float32, saturate, without_autocast
from nnunet_sfma.networks.sfmanet.dual_axis import DualAxisMultiScaleAttentionUnit, StripConvolution


class FastDualAxisMultiScaleAttentionUnit(DualAxisMultiScaleAttentionUnit):
    """Stands for :class:`DualAxisMultiScaleAttentionUnit`.

    The strips are summed in place; what lies between the strips of large maps, and the factors of the product, are not
    kept for the backward pass.

    Gives up: the second derivative on a CPU.
    """

    def forward(self, x_in: torch.Tensor, x: torch.Tensor, out_s: torch.Tensor, out_c: torch.Tensor) -> torch.Tensor:
        """Combine the four maps, each (B, C, H, W), to one."""
        pairs = [(strip, out_s) for strip in self.spatial] + [(strip, out_c) for strip in self.frequency]
        stripped = (recomputed_if_large(strip, gated) for strip, gated in pairs)
        fused = at_least_float32(x) + next(stripped)
        for one in stripped:
            fused += one
        return in_row_blocks(_modulated, self.mix(saturate(fused, x.dtype)), x_in)


class FastStripConvolution(StripConvolution):
    """Stands for :class:`StripConvolution`; in half precision on a CPU the strips are convolved in float32.

    There PyTorch 2.14's CPU library never returns from a depthwise strip of 21 on fewer than 32 channels: in float16
    on processors that compute in it, in bfloat16 where the channels of a pixel lie side by side.

    Gives up: in half precision on a CPU hooks on the convolutions; on a CPU the second derivative.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        if x.device.type != "cpu":
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if dtype not in (torch.float16, torch.bfloat16):
            return super().forward(x)
        with without_autocast(x):
            for conv in self:
                wide = convolve(at_least_float32(x), at_least_float32(conv.weight), at_least_float32(conv.bias))
                x = saturate(wide, dtype)
        return x


def _modulated(attention: torch.Tensor, x_in: torch.Tensor) -> torch.Tensor:
    """The product of equation 20."""
    attention = saturate(attention, attention.dtype)
    return saturate(at_least_float32(attention) * at_least_float32(x_in), attention.dtype)
