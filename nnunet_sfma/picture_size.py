"""Photographs at the size that a model takes: one way for the conversion and for prediction."""

from collections.abc import Sequence

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


def resize_probabilities(probabilities: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a map (H, W) of probabilities at another size (rows, columns), linearly."""
    picture = Image.fromarray(probabilities.astype(np.float32))
    resized = picture.resize(_width_and_height(size), Image.Resampling.BILINEAR)
    return np.asarray(resized).astype(probabilities.dtype)


def _width_and_height(size: Sequence[int]) -> tuple[int, int]:
    rows, columns = size
    return columns, rows
