"""The fast twin of the double convolution of SFMANet's U-Net."""

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.accelerate.layout import in_faster_layout, is_full_precision_on_cpu
from nnunet_sfma.networks.accelerate.recomputation import recomputed
from nnunet_sfma.networks.half_precision import saturate
from nnunet_sfma.networks.sfmanet.unet import DoubleConvolution


class FastDoubleConvolution(DoubleConvolution):
    """Stands for :class:`DoubleConvolution`.

    A CPU gets the map in the layout that it convolves faster. ReLU, and in evaluation on a CPU the normalisation,
    overwrite their input.

    Gives up: what a hook on a convolution keeps is overwritten; hooks on the normalisations in evaluation.

    Attributes:
        checkpointing: keep nothing but the input for the backward pass.
    """

    checkpointing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return recomputed(self._convolved, x, norms_of=self) if self.checkpointing else self._convolved(x)

    def _convolved(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = conv(in_faster_layout(x, conv.weight))
            x = F.relu_(_normalised(saturate(x, x.dtype), norm))
        return x


def _normalised(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    """``norm(x)``; in the place of x where it may be overwritten and full precision leaves room for it."""
    if norm.training or norm.running_var is None or torch.is_grad_enabled() or not is_full_precision_on_cpu(x):
        return norm(x)
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)
    return torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1), out=x)
