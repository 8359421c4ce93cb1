"""Chains of linear maps as one: the same function of the same parameters, by exact algebra on the weights."""

import torch
from torch import nn


def then_pointwise(
    weight: torch.Tensor, bias: torch.Tensor | None, pointwise: torch.Tensor, pointwise_bias: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A convolution that is followed by a 1x1 convolution, as one convolution.

    It also holds at a zero-padded border, where the 1x1 convolution sees no padding.

    Args:
        weight: (M, N, h, w) of the first convolution.
        bias: (M,) of the first.
        pointwise: (O, M) of the second.
        pointwise_bias: (O,) of the second.

    Returns:
        Weight (O, N, h, w) and bias (O,), None if neither has one.
    """
    merged = (pointwise @ weight.flatten(1)).view(-1, *weight.shape[1:])
    if bias is None:
        return merged, pointwise_bias
    through = pointwise @ bias
    return merged, through if pointwise_bias is None else through + pointwise_bias


def dense(conv: nn.Conv2d) -> torch.Tensor:
    """The weight (M, N, h, w) of a convolution without groups that does what this one with groups does."""
    groups = conv.groups
    blocks = conv.weight.unflatten(0, (groups, -1))
    weight = blocks.new_zeros(groups, groups, *blocks.shape[1:])
    index = torch.arange(groups, device=weight.device)
    weight[index, index] = blocks
    return weight.permute(0, 2, 1, 3, 4, 5).flatten(2, 3).flatten(0, 1)
