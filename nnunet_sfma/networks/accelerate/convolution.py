"""Convolutions that keep the size, with gradients that a CPU computes as fast as the convolution itself."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from nnunet_sfma.networks.accelerate.layout import is_full_precision_on_cpu

NARROW = 3  # columns of a depthwise kernel


class Convolution(nn.Conv2d):
    """Stands for ``nn.Conv2d`` of stride 1, odd kernel and the zero padding that keeps the size.

    Gives up: on a CPU the second derivative.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C_in, H, W)."""
        return convolve(x, self.weight, self.bias)


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Convolve with stride 1 and the zero padding that keeps the size; on a CPU it can be differentiated once.

    PyTorch's gradient of the input of a large map takes several times as long on a CPU as the convolution with the
    mirrored kernel, which is the same; and its CPU library has no fast weight gradient for depthwise kernels wider than
    three columns: that of a 1 x 21 strip took fifty times as long as the strip. Both are computed in other ways there.

    Args:
        x: (B, C_in, H, W).
        weight: (C_out, C_in / groups, k, l), k and l odd.
        bias: (C_out,) or none.
    """
    groups = x.shape[1] // weight.shape[1]
    is_known = groups == 1 or groups == x.shape[1] == weight.shape[0]
    if is_known and torch.is_grad_enabled() and is_full_precision_on_cpu(x) and x.numel() > weight.numel():
        return _Convolution.apply(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=_padding(weight.shape), groups=groups)


def _padding(shape: torch.Size) -> tuple[int, int]:
    return shape[2] // 2, shape[3] // 2


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=_padding(weight.shape), groups=x.shape[1] // weight.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradients(*ctx.saved_tensors, grad, ctx.needs_input_grad)


def gradients(
    x: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor, wanted: Sequence[bool] = (True, True, True)
) -> tuple[torch.Tensor | None, ...]:
    """The gradients of the map, the weight and the bias of :func:`convolve`, as far as wanted.

    Args:
        x: (B, C_in, H, W).
        weight: (C_out, C_in / groups, k, l).
        grad: (B, C_out, H, W), of the result.
        wanted: which of the three.
    """
    grad = grad.contiguous(memory_format=torch.channels_last)
    grad_x = _input_gradient(weight, grad, x.shape[1] // weight.shape[1]) if wanted[0] else None
    grad_weight = _weight_gradient(x, weight.shape, grad) if wanted[1] else None
    return grad_x, grad_weight, grad.sum((0, 2, 3)) if wanted[2] else None


def _input_gradient(weight: torch.Tensor, grad: torch.Tensor, groups: int) -> torch.Tensor:
    mirrored = weight.flip(2, 3)
    return convolve(grad, mirrored.transpose(0, 1) if groups == 1 else mirrored)


def _weight_gradient(x: torch.Tensor, shape: torch.Size, grad: torch.Tensor) -> torch.Tensor:
    groups = x.shape[1] // shape[1]
    if groups == 1:
        return conv2d_weight(x, shape, grad, padding=_padding(shape))
    return _depthwise_gradient(x, shape, grad)


def _depthwise_gradient(x: torch.Tensor, shape: torch.Size, grad: torch.Tensor) -> torch.Tensor:
    """The gradient of the weight (C, 1, k, l), a few columns of it at a time and as few as can be."""
    channels, _, height, width = shape
    if height < width:
        transposed = torch.Size((channels, 1, width, height))
        return _depthwise_gradient(x.transpose(2, 3), transposed, grad.transpose(2, 3)).transpose(2, 3)
    grad = grad.contiguous(memory_format=torch.channels_last)
    padded = F.pad(x, (width // 2, width // 2)) if width > 1 else x
    pieces = []
    for first in range(0, width, NARROW):
        number = min(NARROW, width - first)
        shifted = padded[..., first : first + x.shape[3] + number - 1].contiguous(memory_format=torch.channels_last)
        piece = (channels, 1, height, number)
        pieces.append(conv2d_weight(shifted, piece, grad, padding=(height // 2, 0), groups=channels))
    return torch.cat(pieces, dim=3)
