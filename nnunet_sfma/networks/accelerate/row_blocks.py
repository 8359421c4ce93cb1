"""Maps a few rows at a time."""

from collections.abc import Callable, Iterator
from itertools import compress

import torch
from torch.autograd.function import once_differentiable

from nnunet_sfma.networks.accelerate.layout import is_full_precision_on_cpu
from nnunet_sfma.networks.accelerate.recomputation import recomputed

BLOCK = 1 << 17  # numbers of a map at a time, 512 KiB in float32: what the caches of a core hold


def in_row_blocks(function: Callable[..., torch.Tensor], *maps: torch.Tensor) -> torch.Tensor:
    """``function(*maps)`` for a function that computes each row from the same row of the maps.

    On a CPU it gets a few rows at a time, see :func:`row_blocks`, so that its intermediate results never leave the
    caches. They are not kept for the backward pass, which computes them again; elsewhere see :func:`recomputed`.

    Args:
        function: from maps (1, C_i, rows, W_i), and nothing else that has a gradient, to one of the first map's shape.
        maps: (B, C_i, H, W_i).
    """
    if not is_full_precision_on_cpu(maps[0]):
        return recomputed(function, *maps)
    return _InRowBlocks.apply(function, *maps)


def row_blocks(*maps: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same few rows of each map (B, C_i, H, W_i), all images as one: (1, C_i, rows, W_i).

    Where the channels of a pixel lie side by side, as in :func:`empty_like`, they are views that can be written.
    """
    number = max(1, BLOCK // max(map_.shape[1] * map_.shape[3] for map_ in maps))
    stacked = [map_.permute(0, 2, 3, 1).flatten(0, 1)[None].permute(0, 3, 1, 2) for map_ in maps]
    return zip(*(map_.split(number, dim=2) for map_ in stacked), strict=True)


def empty_like(map_: torch.Tensor) -> torch.Tensor:
    """A map of this shape to be filled by rows."""
    return torch.empty_like(map_, memory_format=torch.channels_last)


class _InRowBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function: Callable[..., torch.Tensor], *maps: torch.Tensor) -> torch.Tensor:
        ctx.function = function
        ctx.save_for_backward(*maps)
        out = empty_like(maps[0])
        for of_out, *blocks in row_blocks(out, *maps):
            of_out.copy_(function(*blocks))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, wanted = ctx.saved_tensors, ctx.needs_input_grad[1:]
        grads = [empty_like(map_) for map_ in maps]
        for of_result, *blocks in row_blocks(grad, *maps, *grads):
            blocks, targets = blocks[: len(maps)], blocks[len(maps) :]
            inputs = [block.detach().requires_grad_(want) for block, want in zip(blocks, wanted, strict=True)]
            with torch.enable_grad():
                result = ctx.function(*inputs)
            found = torch.autograd.grad(result, list(compress(inputs, wanted)), of_result)
            for target, gradient in zip(compress(targets, wanted), found, strict=True):
                target.copy_(gradient)
        return None, *(map_ if want else None for map_, want in zip(grads, wanted, strict=True))
