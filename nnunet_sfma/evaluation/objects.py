"""Object-wise scores of the gland segmentation challenge GlaS (Sirinukunwattana et al., 2017, arXiv:1603.00275).

Both sides are maps of numbered objects in a picture. The object of the other side that belongs to an object is the one
with which it shares most pixels (the lower number if two share as many). With |x| an object's area, *(x) the object
that belongs to it, R the objects of the reference and P the predicted ones:

- A predicted object p is a true positive if it covers at least half of the reference's object r = *(p), and no other
  predicted object is counted for r. The other predicted objects are false positives, the other objects of the reference
  false negatives.
- Object Dice: half the mean of Dice(r, *(r)) over R, weighted by |r|, plus half the mean of Dice(p, *(p)) over P,
  weighted by |p|. An object that overlaps with none has a Dice of 0.
- Object Hausdorff distance: the same with the Hausdorff distance in place of Dice. For an object that overlaps with
  none, the object of the other side with the smallest Hausdorff distance is taken.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nnunet_sfma.evaluation.surface import directed_distances


def measure_objects(prediction: np.ndarray, reference: np.ndarray) -> dict[str, int | float | None]:
    """Object-wise counts, Dice and Hausdorff distance of a picture.

    Args:
        prediction: whole numbers, (y, x) or (1, y, x), 0 where there is no object; as from :func:`instances`.
        reference: whole numbers, of the same shape. Numbers need not follow one another.

    Returns:
        ``tp``, ``fp``, ``fn``: number of objects. ``object_dice``: 0 to 1; None if neither side has an object.
        ``object_hausdorff``: in pixels; None if one side has no object. JSON can hold it.

    Raises:
        ValueError: if the shapes differ, or are not those of a picture.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction and reference must have the same shape, got {prediction.shape}, {reference.shape}"
        )
    if prediction.ndim != 2 and (prediction.ndim != 3 or prediction.shape[0] != 1):
        raise ValueError(f"objects are measured in pictures, (y, x) or (1, y, x), got the shape {prediction.shape}")
    picture = prediction.shape[-2:]
    predicted, true = _Objects.of(prediction.reshape(picture)), _Objects.of(reference.reshape(picture))
    if not len(predicted.areas) or not len(true.areas):
        dice = 0.0 if len(predicted.areas) or len(true.areas) else None
        counts = {"tp": 0, "fp": len(predicted.areas), "fn": len(true.areas)}
        return counts | {"object_dice": dice, "object_hausdorff": None}
    shared = _shared_pixels(true, predicted)
    hits = _hits(shared, true)
    return {
        "tp": hits,
        "fp": len(predicted.areas) - hits,
        "fn": len(true.areas) - hits,
        "object_dice": (_dice(true, predicted, shared) + _dice(predicted, true, shared.T)) / 2,
        "object_hausdorff": (_hausdorff(true, predicted, shared) + _hausdorff(predicted, true, shared.T)) / 2,
    }


def object_f1(measured: dict) -> float | None:
    """2 TP / (2 TP + FP + FN), counted in objects; None if neither side has an object."""
    total = 2 * measured["tp"] + measured["fp"] + measured["fn"]
    return 2 * measured["tp"] / total if total else None


def instances(mask: np.ndarray) -> np.ndarray:
    """Numbers from 1 for the connected components of a mask, for predictions, in which objects have no numbers.

    Args:
        mask: boolean, or numbers of which all but 0 count; (y, x) or (1, y, x). Pixels that share a side or a corner
            are connected.

    Returns:
        Whole numbers, of the same shape; 0 outside of the mask.
    """
    return ndimage.label(mask, structure=np.ones((3,) * mask.ndim))[0]


@dataclass(frozen=True)
class _Objects:
    """The n objects of one side.

    Attributes:
        numbers: (y, x); object i has the number i + 1.
        areas: (n,), in pixels.
        boxes: (n, 4); first row, first column, and the row and column after the last.
    """

    numbers: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray) -> "_Objects":
        given = np.unique(labels[labels != 0])
        numbers = np.where(labels != 0, np.searchsorted(given, labels) + 1, 0)
        boxes = [(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(numbers)]
        return cls(numbers, np.bincount(numbers.ravel())[1:], np.array(boxes))


def _shared_pixels(true: _Objects, predicted: _Objects) -> np.ndarray:
    """Number of pixels that each object of the reference (rows) shares with each predicted one (columns)."""
    shape = len(true.areas) + 1, len(predicted.areas) + 1
    pairs = np.ravel_multi_index((true.numbers.ravel(), predicted.numbers.ravel()), shape)
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)[1:, 1:]


def _hits(shared: np.ndarray, true: _Objects) -> int:
    own = shared.argmax(axis=0)
    covers = 2 * shared.max(axis=0) >= true.areas[own]
    return len(np.unique(own[covers]))


def _dice(objects: _Objects, others: _Objects, shared: np.ndarray) -> float:
    dice = 2 * shared.max(axis=1) / (objects.areas + others.areas[shared.argmax(axis=1)])
    return float(np.average(dice, weights=objects.areas))


def _hausdorff(objects: _Objects, others: _Objects, shared: np.ndarray) -> float:
    distances = [
        _distance(objects, i, others, row.argmax()) if row.any() else _distance_to_nearest(objects, i, others)
        for i, row in enumerate(shared)
    ]
    return float(np.average(distances, weights=objects.areas))


def _distance(objects: _Objects, i: int, others: _Objects, j: int) -> float:
    """Hausdorff distance: the largest distance of a pixel of either object to the nearest pixel of the other."""
    both = np.stack([objects.boxes[i], others.boxes[j]])
    (top, left), (bottom, right) = both[:, :2].min(axis=0), both[:, 2:].max(axis=0)
    one = objects.numbers[top:bottom, left:right] == i + 1
    other = others.numbers[top:bottom, left:right] == j + 1
    return max(directed_distances(one, other, (1, 1)).max(), directed_distances(other, one, (1, 1)).max())


def _distance_to_nearest(objects: _Objects, i: int, others: _Objects) -> float:
    # No two objects are nearer to each other than the sides of their boxes, so few of them have to be looked at.
    at_least = np.abs(others.boxes - objects.boxes[i]).max(axis=1)
    nearest = np.inf
    for j in at_least.argsort():
        if at_least[j] >= nearest:
            break
        nearest = min(nearest, _distance(objects, i, others, j))
    return nearest
