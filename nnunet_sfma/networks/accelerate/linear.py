"""Linear layers whose inference on a CPU is as fast as that of convolutions."""

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.accelerate.layout import is_full_precision_on_cpu


class Linear(nn.Linear):
    """A linear layer; without gradients on a CPU it is computed as the 1x1 convolution that it is.

    PyTorch leaves matrix products in float32 to a library that uses half the width of some processors, and convolutions
    to one that uses all of it.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., C_in) to (..., C_out)."""
        if torch.is_grad_enabled() or not is_full_precision_on_cpu(x) or not x.numel():
            return super().forward(x)
        pixels = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
        result = F.conv2d(pixels, self.weight[:, :, None, None], self.bias)
        return result.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)
