"""Trading a little computation for the memory of a training step."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint, noop_context_fn

LARGE = 1 << 23  # numbers of a map, 32 MiB in float32


def recomputed(
    function: Callable[..., torch.Tensor], *inputs: torch.Tensor, norms_of: nn.Module | None = None
) -> torch.Tensor:
    """``function(*inputs)``; the backward pass computes its intermediate results again instead of keeping them.

    Of the recomputation only what leads to the last tensor that is needed takes place: if the function ends in a
    matrix product, that one is not done again. Compiled networks keep what their compiler decides; on the meta device
    everything is kept.

    Args:
        function: differentiable, the same whenever it is called.
        inputs: kept for the backward pass.
        norms_of: a module whose batch normalisations the function calls; they count the batch once.
    """
    if not _recomputes(inputs[0]):
        return function(*inputs)
    contexts = noop_context_fn
    if norms_of is not None:
        contexts = partial(_forward_and_again, norms_of)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


def recomputed_if_large(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
    """The same where the first input is a large map; of small ones the time is worth more than the memory."""
    return recomputed(function, *inputs) if _recomputes(inputs[0]) and inputs[0].numel() >= LARGE else function(*inputs)


def has_checkpointing(network: nn.Module) -> bool:
    """Whether the network has units that can be told to keep nothing but their input for the backward pass."""
    return any(hasattr(module, "checkpointing") for module in network.modules())


def checkpoint_activations(network: nn.Module) -> None:
    """From now on keep only what lies between an accelerated network's units, and compute the rest again.

    Raises:
        ValueError: if the network has no such units.
    """
    if not has_checkpointing(network):
        raise ValueError(f"{type(network).__name__} has no units whose activations can be computed again")
    for module in network.modules():
        if hasattr(module, "checkpointing"):
            module.checkpointing = True


def _forward_and_again(module: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _with_statistics_as_they_are(module)


def _recomputes(x: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and not torch.compiler.is_compiling() and not x.is_meta


@contextmanager
def _with_statistics_as_they_are(module: nn.Module) -> Iterator[None]:
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)
