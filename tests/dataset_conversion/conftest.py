"""An empty nnUNet_raw, tiny volumes on an oblique grid, and the real images where there are any."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813

from tests.dataset_conversion import releases

SMALL = (7, 6, 5)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty nnUNet_raw; the other two folders are unset."""
    folder = tmp_path / "raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    monkeypatch.delenv("nnUNet_results", raising=False)
    return folder


@pytest.fixture
def provenance() -> Callable[[Path], dict]:
    """Reads what a dataset tells of its cases, by identifier."""
    return lambda dataset: json.loads((dataset / "provenance.json").read_text())["cases"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder for a release."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def volume() -> Callable[..., sitk.Image]:
    """Makes a float32 volume of 7 x 6 x 5 voxels on the oblique grid, from an array in (z, y, x) or from a seed."""
    return partial(releases.volume, size=SMALL)


@pytest.fixture
def mask() -> Callable[..., sitk.Image]:
    """Makes a uint16 mask on the same grid."""
    return partial(releases.mask, size=SMALL)


@pytest.fixture
def build_isles() -> Callable[..., Path]:
    """Makes an ISLES release of such volumes and returns its folder."""
    return partial(releases.build_isles, size=SMALL)


@pytest.fixture
def real_isles() -> Path:
    """The real release's folder, with whatever cases are there."""
    return _real("isles2022/ISLES-2022")


@pytest.fixture
def real_acdc() -> Path:
    """Real patients of ACDC in the official layout; their spacing is nominal."""
    return _real("acdc")


@pytest.fixture
def real_isic2017() -> Path:
    """Real pairs of ISIC 2017's validation part in full resolution."""
    return _real("isic2017")


@pytest.fixture
def real_glas() -> Path:
    """Real pairs of GlaS with Grade.csv."""
    return _real("glas")


def _real(place: str) -> Path:
    data = os.environ.get("NNUNET_SFMA_REAL_DATA")
    if not data:
        pytest.skip(f"NNUNET_SFMA_REAL_DATA is not set (a folder that holds {place})")
    folder = Path(data) / place
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    return folder
