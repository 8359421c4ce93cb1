"""Keeping half precision finite."""

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
