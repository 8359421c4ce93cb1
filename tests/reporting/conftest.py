"""Evaluations with images, labels and predictions on disk, small enough for a test."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_sfma.files import sha256
from tests.evaluation.evaluations import make_evaluation

SHAPE = (4, 24, 20)


@pytest.fixture(scope="session")
def make_with_images(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict]:
    """Like ``make_evaluation``, but its files are there; all cases share them, for they are only looked at.

    Learning curves, which take longest to draw, are left out unless asked for.
    """

    def make(shape: tuple[int, int, int] = SHAPE, curves: bool = False, **kwargs) -> dict:
        folder = tmp_path_factory.mktemp("evaluation")
        reference = np.zeros(shape, np.uint8)
        reference[1:3, 5:15, 5:15] = 1
        prediction = np.roll(reference, 3, axis=1)
        rng = np.random.default_rng(0)
        _write(rng.normal(100, 20, shape).astype(np.float32), folder / "image_0000.nii.gz")
        _write(reference, folder / "reference.nii.gz")
        _write(prediction, folder / "prediction.nii.gz")
        evaluation = make_evaluation(**kwargs)
        evaluation["path"] = str(folder / "evaluation.json")
        for fold in evaluation["folds"]:
            fold["curves"] = fold["curves"] if curves else {}
        for number, case in enumerate(evaluation["cases"]):
            case["reference"] = str(folder / "reference.nii.gz")
            case["reference_sha256"] = sha256(folder / "reference.nii.gz")
            # another spelling of the same file: two evaluations of the very same predictions are refused
            case["prediction"] = str(folder / ("./" * number + "prediction.nii.gz"))
            case["images"] = [str(folder / "image_0000.nii.gz")]
            case["shape"] = list(shape)
        return evaluation

    return make


@pytest.fixture
def two_models(make_with_images) -> list[dict]:
    """SFMANet and DANIE on the same two classes, ten cases and folds."""
    common = {"classes": ("core", "penumbra"), "cases": 10}
    return [
        make_with_images(**common),
        make_with_images(name="nnUNetTrainerDANIE_L / danie-l / 2d", quality=0.7, **common),
    ]


def add_explain(evaluation: dict, figures: int, size: tuple[int, int]) -> None:
    """Put noise, which no format makes small, beside an evaluation as if explain had drawn it."""
    from PIL import Image

    folder = Path(evaluation["path"]).parent / "explain"
    folder.mkdir()
    rng = np.random.default_rng(0)
    entries = []
    for number in range(figures):
        noise = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
        entries.append(
            {
                "file": f"{number}.png",
                "case": "case_000",
                "slice": number,
                "title": f"SGU gate, skip {number}",
                "caption": "Brighter is more.",
                "network": "SFMANet",
            }
        )
    (folder / "explain.json").write_text(json.dumps({"figures": entries}))


def _write(array: np.ndarray, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.9, 0.9, 4.0))
    sitk.WriteImage(image, str(path))
