"""Tiny volumes on an oblique grid, and ISLES trees in both layouts made of them."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

TILT = math.radians(20)
OBLIQUE = (1.0, 0.0, 0.0, 0.0, math.cos(TILT), -math.sin(TILT), 0.0, math.sin(TILT), math.cos(TILT))


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty nnUNet_raw; the other two folders are unset."""
    folder = tmp_path / "raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    monkeypatch.delenv("nnUNet_results", raising=False)
    return folder


def _volume(array: np.ndarray | None = None, *, seed: int = 0, size=(7, 6, 5), spacing=(0.9, 1.1, 2.5)) -> sitk.Image:
    if array is None:
        array = np.random.default_rng(seed).normal(100, 20, size[::-1]).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-110.25, 80.5, -52.75))
    image.SetDirection(OBLIQUE)
    return image


def _mask(*, empty: bool = False, value: int = 1, size=(7, 6, 5)) -> sitk.Image:
    array = np.zeros(size[::-1], np.uint16)
    array[1:3, 2:4, 2:5] = 0 if empty else value
    return _volume(array)


def _build_isles(
    base: Path, layout: str = "zenodo", n: int = 2, *, ending: str = ".nii.gz", upper: bool = False, flair: bool = True
) -> Path:
    """A release with ``n`` cases below ``base``; FLAIR lies on a finer, thicker grid, as in the real one."""
    root = base / ("ISLES-2022" if layout == "zenodo" else "dataset-ISLES22")
    for number in range(1, n + 1):
        subject, session = f"sub-strokecase{number:04d}", "ses-0001"
        images = root / subject / session if layout == "zenodo" else root / "rawdata" / subject / session
        volumes = {"dwi": _volume(seed=number), "adc": _volume(seed=100 + number)}
        if flair:
            volumes["flair"] = _volume(seed=200 + number, size=(14, 12, 3), spacing=(0.45, 0.55, 5.0))
        for kind, volume in volumes.items():
            folder = images / ("anat" if kind == "flair" else "dwi") if layout == "zenodo" else images
            suffix = kind.upper() if upper or (layout == "zenodo" and kind == "flair") else kind
            write(volume, folder / f"{subject}_{session}_{suffix}{ending}")
        write(_mask(), root / "derivatives" / subject / session / f"{subject}_{session}_msk{ending}")
    return root


def write(image: sitk.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def volume() -> Callable[..., sitk.Image]:
    """Makes a float32 volume on the oblique grid, from an array in (z, y, x) or from a seed."""
    return _volume


@pytest.fixture
def mask() -> Callable[..., sitk.Image]:
    """Makes a uint16 mask on the same grid."""
    return _mask


@pytest.fixture
def build_isles() -> Callable[..., Path]:
    """Makes an ISLES release and returns its folder."""
    return _build_isles


@pytest.fixture
def real_isles() -> Path:
    """The real release's folder, with whatever cases are there."""
    data = os.environ.get("NNUNET_SFMA_REAL_DATA")
    if not data:
        pytest.skip("NNUNET_SFMA_REAL_DATA is not set (a folder that holds isles2022/ISLES-2022)")
    folder = Path(data) / "isles2022" / "ISLES-2022"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    return folder
