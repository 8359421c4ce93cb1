"""The anatomical order of a volume's axes: nnU-Net slices arrays, so volumes of several orders are cut differently."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import SimpleITK as sitk  # noqa: N813

POSITIVE = str.maketrans("LPI", "RAS")
"""Which way an axis runs does not matter to what a slice along it shows."""


def order_of_axes(image: sitk.Image) -> str | None:
    """Return which way x, y and z of a volume run, as ``RAS`` or ``SRA``, each letter for either direction.

    Pictures have none.
    """
    if image.GetDimension() != 3:
        return None
    find = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines
    return find(image.GetDirection()).translate(POSITIVE)


def with_notes_on_axes(cases: Sequence[Any]) -> list[Any]:
    """Return cases with a note to each whose axes lie in another order than those of most.

    Args:
        cases: dataclass instances with ``axes``, as :func:`order_of_axes` tells it, and ``notes``.
    """
    counts = Counter(case.axes for case in cases if case.axes)
    if len(counts) < 2:
        return list(cases)
    usual = max(counts, key=counts.get)
    return [case if case.axes in (usual, None) else _noted(case, usual, counts[usual]) for case in cases]


def _noted(case: Any, usual: str, number: int) -> Any:
    note = (
        f"the axes of its images lie in the order {case.axes}, those of {number} other cases in the order {usual}, so "
        "slices along an axis, as of nnU-Net's 2d configuration, show other anatomical planes than theirs; bring all "
        "files to one order (as SimpleITK.DICOMOrient does) and convert again"
    )
    return replace(case, notes=[*case.notes, note])
