"""Lesion-wise detection by the rules of the ISLES 2022 challenge.

A lesion is a connected component of the mask; voxels that share a face, an edge or a corner are connected (26
neighbours in a volume, 8 in a picture). A lesion of the reference is detected (a true positive) if at least one of its
voxels is predicted, and missed (a false negative) otherwise. A predicted component that holds no voxel of the reference
is a false positive.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage

from nnunet_sfma.evaluation.surface import crop_to_masks


def measure_lesions(prediction: np.ndarray, reference: np.ndarray, voxel_volume: float) -> dict:
    """The reference's lesions, which of them were hit, and how many predicted lesions are false.

    Args:
        prediction: boolean, or numbers of which all but 0 count; (z, y, x), (1, y, x) or (y, x).
        reference: the same, of the same shape.
        voxel_volume: a voxel's volume, in the unit in which volumes are wanted.

    Returns:
        ``reference``: [volume, hit] of each lesion of the reference, by growing volume; ``predicted``: number of
        predicted lesions; ``false``: number of those that touch no voxel of the reference. JSON can hold it.

    Raises:
        ValueError: if the shapes differ.
    """
    prediction, reference = crop_to_masks(prediction, reference)
    lesions, number = _components(reference)
    predicted_lesions, predicted = _components(prediction)
    volumes = np.bincount(lesions[reference], minlength=number + 1)[1:] * voxel_volume
    hits = np.bincount(lesions[prediction], minlength=number + 1)[1:] > 0
    right = np.bincount(predicted_lesions[reference], minlength=predicted + 1)[1:] > 0
    return {
        "reference": sorted([volume, hit] for volume, hit in zip(volumes.tolist(), hits.tolist(), strict=True)),
        "predicted": predicted,
        "false": predicted - int(right.sum()),
    }


def lesion_f1(measured: dict) -> float | None:
    """TP / (TP + (FP + FN) / 2), counted in lesions; None if neither side has a lesion."""
    hits = _hits(measured)
    missed = len(measured["reference"]) - hits
    total = hits + (measured["false"] + missed) / 2
    return hits / total if total else None


def lesion_recall(measured: dict) -> float | None:
    """TP / (TP + FN), counted in lesions; None if the reference has none."""
    return _hits(measured) / len(measured["reference"]) if measured["reference"] else None


def lesion_count_difference(measured: dict) -> int:
    """Number of predicted lesions minus number of lesions in the reference, without its sign."""
    return abs(measured["predicted"] - len(measured["reference"]))


def detection_by_size(measured: Iterable[dict], edges: Sequence[float]) -> list[dict]:
    """How many lesions there are and how many were hit, by the lesions' volume.

    Args:
        measured: from :func:`measure_lesions`, one for each case.
        edges: growing volumes. Each begins a bin, which reaches up to the next one and does not hold it; the last bin
            has no end. Lesions below the first edge are not counted.

    Returns:
        ``from``, ``to`` (None in the last), ``lesions`` and ``detected`` of each bin.
    """
    lesions = [lesion for case in measured for lesion in case["reference"]]
    bins = []
    for low, high in pairwise([*edges, None]):
        hits = [hit for volume, hit in lesions if low <= volume and (high is None or volume < high)]
        bins.append({"from": low, "to": high, "lesions": len(hits), "detected": sum(hits)})
    return bins


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    return ndimage.label(mask, structure=np.ones((3,) * mask.ndim))


def _hits(measured: dict) -> int:
    return sum(hit for _, hit in measured["reference"])
