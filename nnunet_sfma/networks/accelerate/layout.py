"""Where a CPU needs other ways than a GPU, and the order of the numbers of a map in memory."""

import torch


def is_full_precision_on_cpu(x: torch.Tensor) -> bool:
    """Whether what follows runs on a CPU, in at least float32 and not as a graph for a compiler or an export.

    In half precision PyTorch 2.15's CPU library never returns from a depthwise 1 x 21 convolution of few channels whose
    channels of a pixel lie side by side, so nothing is rearranged there.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if torch.is_autocast_enabled("cpu"):
        return False
    return x.dtype in (torch.float32, torch.float64)


def in_faster_layout(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The map (B, C, H, W) in the order in which a CPU convolves it faster.

    That is with the channels of a pixel side by side (channels last), which the layers that follow pass on. But then
    the weight is reordered for each call, so a map that is smaller than its weight has its channels one after the
    other. Elsewhere the map keeps the order that its user chose.

    Args:
        x: the map.
        weight: that it is convolved with.
    """
    if not is_full_precision_on_cpu(x):
        return x
    if weight.numel() > x.numel():
        return x.contiguous()
    x = x.contiguous(memory_format=torch.channels_last)
    if x.shape[1] == 1:  # of a single channel PyTorch cannot tell the order, the strides say it
        x = x.as_strided(x.shape, (x.shape[2] * x.shape[3], 1, x.shape[3], 1))
    return x
