"""Maps a few rows at a time."""

from collections.abc import Callable

import torch

from nnunet_sfma.networks.layout import is_full_precision_on_cpu
from nnunet_sfma.networks.recomputation import recomputed

BLOCK = 1 << 19  # numbers of a map at a time, 2 MiB in float32: what the caches of a core hold


def in_row_blocks(function: Callable[..., torch.Tensor], *maps: torch.Tensor, rows: int | None = None) -> torch.Tensor:
    """``function(*maps)`` for a function that computes each row from the same row of the maps.

    On a CPU it gets a few rows at a time, from all images of the batch in turn, so that its intermediate results never
    leave the caches. They are not kept for the backward pass, see :func:`recomputed`.

    Args:
        function: from maps (1, C_i, rows, W_i) to one map (1, C, rows, W).
        maps: (B, C_i, H, W_i).
        rows: how many at a time; None means as many as make 2 MiB of the first map.

    Returns:
        (B, C, H, W).
    """
    first = maps[0]
    if not is_full_precision_on_cpu(first):
        return recomputed(function, *maps)
    rows = rows or max(1, BLOCK // (first.shape[1] * first.shape[3]))
    blocks = zip(*(_stacked(map_).split(rows, dim=2) for map_ in maps), strict=True)
    result = torch.cat([recomputed(function, *block) for block in blocks], dim=2)
    return result.permute(0, 2, 3, 1).unflatten(1, (first.shape[0], -1)).squeeze(0).permute(0, 3, 1, 2)


def _stacked(map_: torch.Tensor) -> torch.Tensor:
    """The rows of all images as one image, (1, C, B*H, W); nothing is copied if a pixel's channels lie side by side."""
    return map_.permute(0, 2, 3, 1).flatten(0, 1)[None].permute(0, 3, 1, 2)
