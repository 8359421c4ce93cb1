"""Volumes as arrays."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813


def read_volume(path: Path) -> np.ndarray:
    """The voxels of a volume, (Z, Y, X)."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
