"""Maps a few rows at a time."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.autograd.function import once_differentiable

from nnunet_sfma.networks.layout import is_full_precision_on_cpu
from nnunet_sfma.networks.recomputation import recomputed

BLOCK = 1 << 17  # numbers of a map at a time, 512 KiB in float32: what the caches of a core hold


def in_row_blocks(
    function: Callable[..., torch.Tensor], *maps: torch.Tensor, parameters: Sequence[torch.Tensor] = ()
) -> torch.Tensor:
    """``function(*maps, *parameters)`` for a function that computes each row from the same row of the maps.

    On a CPU it gets a few rows at a time, see :func:`row_blocks`, so that its intermediate results never leave the
    caches. They are not kept for the backward pass, which computes them again; elsewhere see :func:`recomputed`.

    Args:
        function: from maps (1, C_i, rows, W_i) and the parameters to one map of the first one's shape.
        maps: (B, C_i, H, W_i).
        parameters: whatever else has a gradient.
    """
    if not is_full_precision_on_cpu(maps[0]):
        return recomputed(function, *maps, *parameters)
    return _InRowBlocks.apply(function, len(maps), *maps, *parameters)


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
    def forward(ctx, function: Callable, number: int, *inputs: torch.Tensor) -> torch.Tensor:
        ctx.function, ctx.number = function, number
        ctx.save_for_backward(*inputs)
        out = empty_like(inputs[0])
        for of_out, *blocks in row_blocks(out, *inputs[:number]):
            of_out.copy_(function(*blocks, *inputs[number:]))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        number, saved = ctx.number, ctx.saved_tensors
        maps, parameters = saved[:number], [parameter.detach().requires_grad_() for parameter in saved[number:]]
        grads, sums = [empty_like(map_) for map_ in maps], [torch.zeros_like(parameter) for parameter in parameters]
        for of_result, *blocks in row_blocks(grad, *maps, *grads):
            inputs = [*(block.detach().requires_grad_() for block in blocks[:number]), *parameters]
            with torch.enable_grad():
                result = ctx.function(*inputs)
            found = torch.autograd.grad(result, inputs, of_result)
            for of_block, gradient in zip(blocks[number:], found[:number], strict=True):
                of_block.copy_(gradient)
            for sum_, gradient in zip(sums, found[number:], strict=True):
                sum_ += gradient
        return None, None, *grads, *sums
