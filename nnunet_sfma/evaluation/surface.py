"""Distances between the surfaces of two masks."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

# Spacings come rounded from the files: a voxel that lies at the tolerance has to count whatever its last digits are.
ROUNDING = 1e-5


def measure_surfaces(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], tolerance: float
) -> dict[str, int | float]:
    """How far the surfaces of two masks lie apart.

    A mask's surface are its voxels that have a face neighbour outside of the mask or lie at the image's border. A
    voxel's distance is that of its centre to the nearest centre of the other surface, in the unit of ``spacing``. With
    P the distances of the prediction's surface voxels to the reference's surface, and R those of the reference's to the
    prediction's, the measurements are:

    - ``surface_prediction``, ``surface_reference``: number of surface voxels, |P| and |R|.
    - ``hd``: Hausdorff distance, max(max P, max R).
    - ``hd95``: max(95th percentile of P, 95th percentile of R), as MONAI does it.
    - ``hd95_pooled``: 95th percentile of P and R together, as medpy does it.
    - ``asd``: mean of P, which is medpy's and MONAI's directed average surface distance.
    - ``assd``: mean of P and R together, (sum P + sum R) / (|P| + |R|), as MONAI does it. medpy takes the mean of the
      two means instead.
    - ``within_prediction``, ``within_reference``: number of voxels in P and in R that are at most ``tolerance``.

    Percentiles are interpolated linearly. If a mask is empty there are no distances, and only the two numbers of
    surface voxels are given.

    Args:
        prediction: boolean, or numbers of which all but 0 count; (z, y, x) or (y, x). An array (1, y, x) is a picture:
            no pixel has neighbours along z.
        reference: the same, of the same shape.
        spacing: the voxels' size along each axis of the array.
        tolerance: of :func:`nsd`, in the unit of ``spacing``.

    Returns:
        Plain numbers that JSON can hold.

    Raises:
        ValueError: if the shapes differ, or if ``spacing`` has another number of axes.
    """
    if len(spacing) != prediction.ndim:
        raise ValueError(f"spacing must have {prediction.ndim} entries, got {tuple(spacing)}")
    picture = prediction.ndim == 3 and prediction.shape[0] == 1
    prediction, reference = crop_to_masks(prediction, reference)
    if picture:
        prediction, reference, spacing = prediction[0], reference[0], spacing[1:]
    prediction, reference = _surface(prediction), _surface(reference)
    counts = {"surface_prediction": int(prediction.sum()), "surface_reference": int(reference.sum())}
    if not all(counts.values()):
        return counts
    from_prediction = directed_distances(prediction, reference, spacing)
    from_reference = directed_distances(reference, prediction, spacing)
    together = np.concatenate([from_prediction, from_reference])
    return counts | {
        "hd": float(together.max()),
        "hd95": float(max(np.percentile(from_prediction, 95), np.percentile(from_reference, 95))),
        "hd95_pooled": float(np.percentile(together, 95)),
        "asd": float(from_prediction.mean()),
        "assd": float(together.mean()),
        "within_prediction": _within(from_prediction, tolerance),
        "within_reference": _within(from_reference, tolerance),
    }


def nsd(measured: dict[str, int | float]) -> float | None:
    """Normalised surface Dice: the part of both surfaces' voxels that lies within the tolerance of the other surface.

    (within_prediction + within_reference) / (surface_prediction + surface_reference), which is MONAI's surface Dice
    without sub-voxels.

    Args:
        measured: from :func:`measure_surfaces`.

    Returns:
        0 to 1; 0 if one mask is empty, None if both are.
    """
    total = measured["surface_prediction"] + measured["surface_reference"]
    within = measured.get("within_prediction", 0) + measured.get("within_reference", 0)
    return within / total if total else None


def crop_to_masks(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks, boolean, in the smallest box that holds them; as large as they are if both are empty.

    Args:
        prediction, reference: boolean, or numbers of which all but 0 count.

    Raises:
        ValueError: if the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction and reference must have the same shape, got {prediction.shape}, {reference.shape}"
        )
    prediction, reference = as_mask(prediction), as_mask(reference)
    boxes = ndimage.find_objects((prediction | reference).astype(np.uint8))
    box = boxes[0] if boxes else ...
    return prediction[box], reference[box]


def as_mask(array: np.ndarray) -> np.ndarray:
    """Return where an array is not 0; a boolean one as it is."""
    return array if array.dtype == bool else array != 0


def directed_distances(origin: np.ndarray, target: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance of every voxel of one mask to the nearest voxel of another.

    Args:
        origin: boolean, or numbers of which all but 0 count.
        target: the same, of the same shape, not empty.
        spacing: the voxels' size along each axis.

    Returns:
        One distance for each voxel of ``origin``.
    """
    origin, target = as_mask(origin), as_mask(target)
    # Where the nearest voxel lies: scipy needs a multiple of time and memory for the distances of all voxels.
    nearest = ndimage.distance_transform_edt(~target, sampling=spacing, return_distances=False, return_indices=True)
    steps = nearest[:, origin].T - np.argwhere(origin)
    return np.linalg.norm(steps * np.asarray(spacing), axis=1)


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask ^ ndimage.binary_erosion(mask)


def _within(distances: np.ndarray, tolerance: float) -> int:
    return int((distances <= tolerance * (1 + ROUNDING)).sum())
