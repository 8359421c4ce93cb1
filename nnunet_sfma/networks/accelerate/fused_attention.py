"""Attention by a fused CUDA kernel that never holds all the weights, for q and k that are narrower than v."""

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

# The widths that PyTorch's memory-efficient kernel takes are multiples of this in half precision, of 4 in single.
ALIGNMENT = 8
# Without cuDNN's: on an H100 and newer it comes first where q and v differ in width, and where it fails nothing
# takes its place. The unfused one is left for what no kernel takes, such as bfloat16 before Ampere.
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """``softmax(scale q k^T) v`` over the last two axes.

    q and k are padded with zero channels, which change no product, to a width that a fused kernel takes; PyTorch would
    otherwise build all the weights for 2 or 4 channels.

    Args:
        q: (..., N, d).
        k: (..., M, d).
        v: (..., M, C); the kernels take a C that is a multiple of 8.
        scale: of the logits; ``d ** -0.5`` by default.

    Returns:
        (..., N, C).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    padding = (0, -q.shape[-1] % ALIGNMENT)
    with sdpa_kernel(KERNELS):
        return F.scaled_dot_product_attention(F.pad(q, padding), F.pad(k, padding), v, scale=scale)
