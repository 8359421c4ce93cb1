"""What DANIE's equations are made of, written out slowly."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-x))


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def conv3x3(weight: torch.Tensor, x: torch.Tensor, stride: int) -> torch.Tensor:
    """Zero-padded convolution, tap by tap."""
    assert weight.shape[2:] == (3, 3)
    rows, columns = (-(-side // stride) for side in x.shape[2:])
    padded = F.pad(x, (1, 1, 1, 1))
    out = 0
    for dy in range(3):
        for dx in range(3):
            seen = padded[:, :, dy::stride, dx::stride][:, :, :rows, :columns]
            out = out + torch.einsum("oi,bihw->bohw", weight[:, :, dy, dx], seen)
    return out


def conv_norm_gelu(unit: nn.Sequential, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
    """3x3 convolution without bias - BN - GELU; the statistics are those of the unit's mode."""
    conv, norm = unit[0], unit[1]
    assert conv.bias is None
    x = conv3x3(conv.weight, x, stride)
    mean, variance = norm.running_mean, norm.running_var
    if unit.training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    factor = norm.weight / (variance + 1e-5).sqrt()
    return gelu((x - mean.view(1, -1, 1, 1)) * factor.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1))


def conv_block(unit: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    assert len(unit) == 2
    return conv_norm_gelu(unit[1], conv_norm_gelu(unit[0], x))


def interpolation(length: int, raised: int) -> torch.Tensor:
    """Linear interpolation of one axis as a matrix; pixels are areas, the border is repeated."""
    matrix = torch.zeros(raised, length, dtype=torch.float64)
    for i in range(raised):
        position = min(max((i + 0.5) * length / raised - 0.5, 0), length - 1)
        left = int(position)
        right = min(left + 1, length - 1)
        matrix[i, left] += 1 - (position - left)
        matrix[i, right] += position - left
    return matrix


def bilinear(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    rows, columns = (interpolation(length, raised) for length, raised in zip(x.shape[2:], size, strict=True))
    return torch.einsum("yh,bchw,xw->bcyx", rows, x.double(), columns)


def randomised(module: nn.Module) -> nn.Module:
    """The module in float64 with no weight, bias or running statistic left where it starts."""
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 1)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer)
        elif name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2)
    return module


def given_to(part: nn.Module, whole: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a part of a network is given when the whole sees x."""
    seen = []
    handle = part.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    whole(x)
    handle.remove()
    return seen[0]


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)
