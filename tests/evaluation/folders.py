"""Folders of tiny predictions and labels, as ``nnUNetv2_predict`` and a conversion leave them."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

SPACING = (0.5, 1.0, 3.0)


def write_volume(array: np.ndarray, path: Path, spacing: tuple[float, ...] = SPACING) -> None:
    """A (z, y, x) array on an oblique grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((12.5, -30.25, 7.75))
    image.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_folders(root: Path, cases: dict[str, tuple[np.ndarray, np.ndarray]], labels: dict, **entries) -> list[str]:
    """Write ``pred`` and ``labels`` and return the arguments that name them to ``nnunet-sfma evaluate``."""
    for case, (prediction, reference) in cases.items():
        write_volume(prediction, root / "pred" / f"{case}.nii.gz")
        write_volume(reference, root / "labels" / f"{case}.nii.gz")
    description = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz", **entries}
    (root / "pred" / "dataset.json").write_text(json.dumps(description))
    return ["-i", str(root / "pred"), "-l", str(root / "labels"), "-np", "1"]


def random_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a label with the values 0, 1 and 2; (6, 14, 12) voxels."""
    rng = np.random.default_rng(seed)
    reference = np.zeros((6, 14, 12), np.uint8)
    z, y, x = rng.integers(0, (2, 5, 4))
    reference[z : z + 3, y : y + 6, x : x + 5] = 1
    reference[z : z + 2, y + 1 : y + 4, x : x + 3] = 2
    prediction = np.roll(reference, rng.integers(0, 3, 3), (0, 1, 2))
    prediction[rng.random(prediction.shape) < 0.02] = 1
    return prediction, reference
