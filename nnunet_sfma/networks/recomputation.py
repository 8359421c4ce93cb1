"""Trading a little computation for the memory of a training step."""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
    """``function(*inputs)``; the backward pass computes its intermediate results again instead of keeping them.

    Of the recomputation only what leads to the last tensor that is needed takes place: if the function ends in a
    convolution or a matrix product, that one is not done again. Compiled networks keep what their compiler decides.

    Args:
        function: differentiable, the same whenever it is called, without layers that count their calls.
        inputs: kept for the backward pass.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
