"""Keeping half precision finite."""

from contextlib import nullcontext

import torch


def saturate(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Cast to ``dtype``, clamping to its finite range where that range is float16's.

    float16 ends at 65504 and nnU-Net predicts under float16 autocast; float32 and bfloat16 have room to spare and pass
    unclamped.

    Args:
        x: tensor of any shape.
        dtype: the floating point type that the next operation works in.
    """
    if dtype == torch.float16:
        limit = torch.finfo(torch.float16).max
        x = x.clamp(-limit, limit)
    return x.to(dtype)


def without_autocast(x: torch.Tensor):
    """A context in which operations on ``x``'s device keep the type of their inputs."""
    if not torch.amp.is_autocast_available(x.device.type):  # the meta device, on which costs are measured
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """``x`` in float32 if it is in half precision, else as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
