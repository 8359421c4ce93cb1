"""What is measured of one case: counts, surfaces, lesions and objects, free of any convention on empty masks or means.

Overlaps are counted by nnU-Net's own functions on what nnU-Net's own reader returns.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn, region_or_label_to_mask
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.lesions import measure_lesions
from nnunet_sfma.evaluation.objects import instances, measure_objects
from nnunet_sfma.evaluation.surface import measure_surfaces
from nnunet_sfma.files import sha256
from nnunet_sfma.grids import differences, grid_of
from nnunet_sfma.sentences import first_few, last_line
from nnunet_sfma.whole_files import is_whole

VERSION = 3
FLAT_SPACING = 998
"""A picture's spacing along the axis that it does not have, in those of its own; nnU-Net's readers say 999."""
COUNTED = {"type": "object", "required": ["counts", "slices", "empty_slices"]}
MEASURED = {
    "type": "object",
    "required": ["spacing", "shape", "reference_sha256", "classes", "background"],
    "properties": {
        "classes": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {**COUNTED, "required": [*COUNTED["required"], "diagonal", "pixel_diagonal"]},
        },
        "background": COUNTED,
    },
}
"""What :func:`measure_case` returned at another time, as JSON Schema."""


@dataclass(frozen=True)
class EvaluatedCase:
    """The files of one case.

    Attributes:
        case: its identifier.
        fold: in whose validation it is; None for a plain folder.
        prediction, reference: label maps.
        instances: the label's objects, one number each, where a data set has them.
        probabilities: what nnU-Net wrote with ``--npz`` or ``--save_probabilities``, if it did.
    """

    case: str
    fold: int | None
    prediction: Path
    reference: Path
    instances: Path | None = None
    probabilities: Path | None = None


@dataclass(frozen=True)
class Measuring:
    """How all cases are measured; it decides, with the files, whether an earlier measurement still counts.

    Attributes:
        classes: foreground classes or regions by name, each with its labels.
        ignore_label: voxels that do not count, if the data set has such a label.
        reader: name of nnU-Net's reader class.
        picture: whether the images have no millimetres, as pictures; they are measured in pixels.
        distances: "mm" or "voxel".
        tolerance: of NSD, in that unit.
        slice_axis: of the array (z, y, x).
    """

    classes: dict[str, tuple[int, ...]]
    ignore_label: int | None
    reader: str
    picture: bool
    distances: str
    tolerance: float
    slice_axis: int

    @property
    def labels(self) -> set[int]:
        return {0, *(label for labels in self.classes.values() for label in labels)}

    def identity(self) -> dict:
        """What tells two ways of measuring apart."""
        return {"version": VERSION, **asdict(self)}


def measure_case(files: EvaluatedCase, how: Measuring) -> dict:
    """Measure one case.

    Returns:
        ``spacing`` and ``shape`` (z, y, x), ``reference_sha256``, ``classes`` by name and ``background``: each with
        ``counts``, the ``slices`` that are not empty as (tp, fp, fn, tn), the number of ``empty_slices``, ``surface``,
        ``lesions``, volumes, and with instance maps ``objects``. With an ignore label there are neither surfaces nor
        lesions, volumes and objects. It can be written as JSON.

    Raises:
        UserError: if a file cannot be read, the grids differ or there are values that the data set does not know.
    """
    reference, grid = _read(files.reference, how, how.labels | {how.ignore_label}, files.case)
    prediction, predicted_grid = _read(files.prediction, how, how.labels, files.case)
    _refuse_other_grid(files, grid, predicted_grid, reference.shape, prediction.shape)
    _refuse_broken_probabilities(files)
    use = reference != how.ignore_label
    spacing = [1.0, 1.0, 1.0] if how.picture else [float(side) for side in grid["spacing"]]
    classes = {
        name: _measure_class(
            region_or_label_to_mask(prediction, labels) & use,
            region_or_label_to_mask(reference, labels) & use,
            use,
            spacing,
            how,
        )
        for name, labels in how.classes.items()
    }
    if files.instances and len(classes) == 1 and how.ignore_label is None:
        objects, _ = _read(files.instances, how, None, files.case)
        if objects.shape != reference.shape:
            raise UserError(
                f"{files.instances} has not the size of the label of {files.case}: convert it again, or give labels "
                "that lie beside instance maps of their size."
            )
        only = next(iter(classes.values()))
        only["objects"] = measure_objects(instances(prediction > 0), objects)
    return {
        "spacing": spacing,
        "shape": list(reference.shape),
        "reference_sha256": sha256(files.reference),
        "classes": classes,
        "background": _count((prediction == 0) & use, (reference == 0) & use, use, how.slice_axis),
    }


def _measure_class(
    prediction: np.ndarray, reference: np.ndarray, use: np.ndarray, spacing: list[float], how: Measuring
) -> dict:
    unit = [1.0] * 3 if how.distances == "voxel" else spacing
    voxel = 1.0 if how.picture else math.prod(spacing) / 1000
    counted = _count(prediction, reference, use, how.slice_axis)
    counts = counted["counts"]
    diagonals = {
        "diagonal": _diagonal(prediction.shape, unit),
        "pixel_diagonal": _diagonal(prediction.shape, [1.0] * 3),
    }
    if how.ignore_label is not None:  # what is annotated ends where nothing ends in the body
        return counted | diagonals
    return {
        **counted,
        **diagonals,
        "surface": measure_surfaces(prediction, reference, unit, how.tolerance),
        "lesions": measure_lesions(prediction, reference, voxel),
        "volume_prediction": (counts["tp"] + counts["fp"]) * voxel,
        "volume_reference": (counts["tp"] + counts["fn"]) * voxel,
    }


def _diagonal(shape: tuple[int, ...], spacing: list[float]) -> float:
    return math.hypot(*(side * step for side, step in zip(shape, spacing, strict=True) if side > 1))


def _count(prediction: np.ndarray, reference: np.ndarray, use: np.ndarray, slice_axis: int) -> dict:
    tp, fp, fn, tn = (int(count) for count in compute_tp_fp_fn_tn(reference, prediction, ~use))
    others = tuple(axis for axis in range(prediction.ndim) if axis != slice_axis)
    of_slices = [
        np.count_nonzero(mask, axis=others)
        for mask in (reference & prediction, prediction & ~reference, reference & ~prediction, use)
    ]
    rows = np.stack(of_slices, axis=1)
    rows[:, 3] -= rows[:, :3].sum(1)
    filled = rows[rows[:, :3].any(1)]
    return {
        "counts": {"tp": tp, "fp": fp, "fn": fn, "tn": tn},
        "slices": filled.tolist(),
        "empty_slices": int((rows.any(1) & ~rows[:, :3].any(1)).sum()),
    }


def has_millimetres(path: Path, reader: str, unit: Sequence[float] | None = None) -> bool:
    """Whether a label map has a size in the body.

    Pictures and single slices, which have two axes only, have none, nor have volumes that a conversion resized.

    Args:
        path: of the label map.
        reader: name of nnU-Net's reader class.
        unit: spacing (z, y, x) that the conversion gave to resized volumes, if it did.
    """
    spacing = [float(side) for side in _load(path, reader)[1]["spacing"]]
    return spacing[0] <= FLAT_SPACING * max(spacing[1:]) and spacing != unit


@cache
def reader_class(name: str) -> type[BaseReaderWriter]:
    """Return nnU-Net's reader of this name.

    Raises:
        RuntimeError, TypeError: if it has none.
    """
    found = recursive_find_reader_writer_by_name(name)
    if not (inspect.isclass(found) and issubclass(found, BaseReaderWriter)):  # any name in nnU-Net's modules is found
        raise TypeError(f"{name} is no reader of nnU-Net")
    return found


def _not_finite(path: Path, array: np.ndarray) -> int:
    """Number of voxels that are NaN or infinite; ITK reads those of a NIfTI file as 0, so the file itself is asked."""
    if path.name.endswith((".nii", ".nii.gz")):
        stored = nibabel.load(path)
        array = np.asarray(stored.dataobj) if stored.get_data_dtype().kind == "f" else array
    return int(array.size - np.isfinite(array).sum())


def _load(path: Path, reader: str) -> tuple[np.ndarray, dict]:
    try:
        return reader_class(reader)().read_seg(str(path))
    except Exception as error:  # readers raise whatever their library does
        reason = last_line(error)
        raise UserError(f"{path} cannot be read ({reason}): make it again or leave the case out.") from None


def _read(path: Path, how: Measuring, allowed: set | None, case: str) -> tuple[np.ndarray, dict]:
    array, properties = _load(path, how.reader)
    if not is_whole(path, reader_class(how.reader)):
        raise UserError(f"{path} is cut off or damaged: make it again, or leave {case} out.")
    if array.shape[0] != 1 or array.ndim != 4:
        raise UserError(f"{path} has the shape {array.shape[1:]} with {array.shape[0]} channels: it is no label map.")
    array = array[0]
    bad = _not_finite(path, array)
    if bad:
        raise UserError(f"{path} has {bad} NaN or infinite voxels: it is no label map; make it again.")
    whole = array.astype(np.int32)
    if not np.array_equal(whole, array):
        raise UserError(f"{path} has values that are no whole numbers: give label maps, not probabilities.")
    unknown = [] if allowed is None else sorted(set(np.unique(whole).tolist()) - allowed)
    if unknown:
        raise UserError(
            f"{path} has the labels {first_few(list(map(str, unknown)))}, which dataset.json does not know: check that "
            f"the file of {case} belongs to this data set."
        )
    return whole, properties


def _refuse_other_grid(files: EvaluatedCase, grid: dict, predicted: dict, shape: tuple, predicted_shape: tuple) -> None:
    if shape != predicted_shape:
        difference = f"{predicted_shape} and {shape} voxels"
    else:
        places = differences(grid_of(grid), grid_of(predicted))
        difference = f"another {' and '.join(places)}" if places else None
    if difference:
        raise UserError(
            f"Prediction and label of {files.case} lie on different grids ({difference}): compare {files.prediction} "
            f"with the label it was predicted for, or give that label the grid of its image and evaluate again."
        )


def _refuse_broken_probabilities(files: EvaluatedCase) -> None:
    if files.probabilities is None:
        return
    try:
        with np.load(files.probabilities) as archive:
            finite = np.isfinite(archive["probabilities"]).all()
    except Exception as error:  # a damaged archive raises one of many
        raise UserError(
            f"{files.probabilities} cannot be read ({error}): predict {files.case} again, or remove the file."
        ) from None
    if not finite:
        raise UserError(
            f"The probabilities of {files.case} in {files.probabilities} hold NaN: the network's output was broken, "
            f"and its label map means nothing; find out why before you evaluate it."
        )
