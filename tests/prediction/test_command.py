"""``python -m nnunet_sfma.prediction``: the voxels of ``nnUNetv2_predict``, and its errors in one sentence."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from nnunetv2.inference.predict_from_raw_data import predict_entry_point

from nnunet_sfma.prediction.__main__ import main
from tests.conftest import Workspace
from tests.prediction.conftest import PLANS, SHAPES, TRAINER, copy_images, images_of, model_of

MODEL = ["-d", "2", "-tr", TRAINER, "-p", PLANS, "-c", "2d", "-device", "cpu"]


@pytest.fixture(autouse=True)
def threads():
    """Both commands change the number of threads of this process."""
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


@pytest.fixture
def arguments(trained: Workspace, tmp_path: Path) -> list[str]:
    """The command for both folds, into a folder ``out``."""
    return [*MODEL, "-i", str(images_of(trained)), "-o", str(tmp_path / "out"), "-f", "0", "1"]


def test_voxels_are_those_of_nnunet(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    main([*arguments, "--disable_progress_bar"])
    monkeypatch.setattr("sys.argv", ["nnUNetv2_predict", *arguments, "-o", str(tmp_path / "expected")])
    predict_entry_point()
    for case in SHAPES:
        ours, nnunets = (_read(tmp_path / folder / f"{case}.nii.gz") for folder in ("out", "expected"))
        np.testing.assert_array_equal(ours, nnunets)
        assert len(np.unique(nnunets)) > 1
    for name in ("dataset.json", "plans.json"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "expected" / name).read_text()


def test_omp_num_threads_is_heeded(arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    main([*arguments, "--disable_progress_bar"])
    assert torch.get_num_threads() == 3


def test_prediction_is_continued_and_probabilities_are_written(arguments: list[str], tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((1, 2, 2), np.uint8)), str(out / "larger.nii.gz"))
    there = (out / "larger.nii.gz").read_bytes()
    cut_off = next(out / f"{case}.nii.gz" for case in SHAPES if case != "larger")
    cut_off.touch()
    main([*arguments, "--continue_prediction"])
    assert {path.name for path in out.glob("*.nii.gz")} == {f"{case}.nii.gz" for case in SHAPES}
    assert (out / "larger.nii.gz").read_bytes() == there
    assert cut_off.stat().st_size > 0
    main([*arguments, "-f", "1", "--save_probabilities"])
    probabilities = np.load(out / "larger.npz")["probabilities"]
    assert probabilities.shape[1:] == _read(out / "larger.nii.gz").shape


@pytest.mark.parametrize("options", [[], ["--save_probabilities"]])
def test_masks_of_an_earlier_run_do_not_outlive_a_prediction_that_fails(
    trained: Workspace, arguments: list[str], tmp_path: Path, options: list[str]
):
    """Neither those of cases that cannot be predicted nor those that were not reached; others' files stay."""
    images, out = copy_images(trained, tmp_path / "images"), tmp_path / "out"
    main([*arguments, "--save_probabilities"])
    np.savez(out / "smaller.npz", features=np.ones(3))
    (out / "another.nii.gz").touch()
    for path in images.glob("*_0001.nii.gz"):
        path.write_bytes(b"")
    with pytest.raises(SystemExit, match="^Not predicted: "):
        main([*arguments, "-i", str(images), *options])
    there = {path.name for path in out.iterdir()} - {"dataset.json", "plans.json", "predict_from_raw_data_args.json"}
    by_others = set() if "--save_probabilities" in options else {"smaller.npz", "smaller.pkl"}
    assert there == {"another.nii.gz", *by_others}


def test_names_that_are_not_utf8_are_refused(arguments: list[str], tmp_path: Path):
    images = tmp_path / "images"
    images.mkdir()
    Path(os.fsdecode(os.fsencode(images) + b"/\xff_0000.nii.gz")).touch()
    with pytest.raises(SystemExit, match="holds names that no table can show"):
        main([*arguments, "-i", str(images)])
    assert not (tmp_path / "out").exists()


def test_errors_are_one_sentence(trained: Workspace, arguments: list[str], tmp_path: Path):
    with pytest.raises(SystemExit, match="-part_id 2: with -num_parts 2 it is 0 to 1."):
        main([*arguments, "-num_parts", "2", "-part_id", "2"])
    with pytest.raises(SystemExit, match="-num_parts 2: give -npp and -nps of at least 1."):
        main([*arguments, "-num_parts", "2"])
    with pytest.raises(SystemExit, match="There is no folder /nowhere: give the folder of the images with -i."):
        main([*arguments, "-i", "/nowhere"])
    with pytest.raises(SystemExit, match="There is no model in .*nnUNetTrainerX__tiny__2d: train it, or check"):
        main([*arguments, "-tr", "nnUNetTrainerX"])
    with pytest.raises(SystemExit, match="has no checkpoint_final.pth of fold all: train it to its end"):
        main([*arguments, "-f", "0", "all"])
    with pytest.raises(SystemExit, match="has no checkpoint_x.pth of fold 0"):
        main([*arguments, "-chk", "checkpoint_x.pth"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [main, predict_entry_point])
def test_missing_device_is_one_sentence(command, arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    monkeypatch.setattr("torch.set_num_interop_threads", lambda number: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["nnUNetv2_predict", *arguments, "-device", "cuda"])
    with pytest.raises(SystemExit, match=r"^There is no CUDA device here that torch can use: give -device cpu\.$"):
        command()


@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_damaged_checkpoint_is_named(
    content: bytes | None, trained: Workspace, arguments: list[str], request: pytest.FixtureRequest
):
    damaged = model_of(trained) / "fold_2"
    damaged.mkdir()
    request.addfinalizer(lambda: shutil.rmtree(damaged))
    path = damaged / "checkpoint_final.pth"
    torch.save({"network": "none"}, path) if content is None else path.write_bytes(content)
    with pytest.raises(SystemExit, match=rf"^{path} cannot be loaded \(.+\): restore it, or train that fold"):
        main([*arguments, "-f", "2"])


def _read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
