"""Pictures and slices at the size that a model takes: one way for the conversion and for prediction."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image


def resize_picture(picture: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a channel or a picture (H, W) or (H, W, 3) at another size (rows, columns): the mean over the area."""
    return np.asarray(Image.fromarray(picture).resize(_width_and_height(size), Image.Resampling.BOX))


def resize_mask(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a label map (H, W) at another size (rows, columns), by the nearest neighbour."""
    # Pillow knows fewer kinds of integers than NumPy
    resized = Image.fromarray(mask.astype(np.int32)).resize(_width_and_height(size), Image.Resampling.NEAREST)
    return np.asarray(resized).astype(mask.dtype)


def resize_linearly(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return floats (H, W) at another size (rows, columns): linear between pixel centres, smoothed where it shrinks."""
    resized = Image.fromarray(values.astype(np.float32)).resize(_width_and_height(size), Image.Resampling.BILINEAR)
    return np.asarray(resized).astype(values.dtype)


RESIZE_IMAGE = {"box": resize_picture, "linear": resize_linearly}
"""By the name that dataset.json has for it."""


def slice_by_slice(
    resize: Callable[[np.ndarray, Sequence[int]], np.ndarray], volume: np.ndarray, size: Sequence[int]
) -> np.ndarray:
    """Return a volume (Z, H, W) with each of its slices resized to (rows, columns) by one of the functions above."""
    return np.stack([resize(each, size) for each in volume])


def _width_and_height(size: Sequence[int]) -> tuple[int, int]:
    rows, columns = size
    return columns, rows
