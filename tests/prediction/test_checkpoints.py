"""Checkpoints that are not what was trained: damaged, hostile, or without numbers."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnunet_sfma.explaining.trained_model import load_predictor
from nnunet_sfma.prediction.__main__ import main
from tests.conftest import Workspace
from tests.prediction.conftest import PLANS, TRAINER, copy_model, images_of

FINAL = "checkpoint_final.pth"


class Hostile:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def model(trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return copy_model(trained, tmp_path / "results")


def predict(trained: Workspace, tmp_path: Path) -> None:
    which = ["-d", trained.regions, "-tr", TRAINER, "-p", PLANS, "-c", "2d", "-f", "0", "1", "-device", "cpu"]
    main([*which, "-i", str(images_of(trained)), "-o", str(tmp_path / "out")])


def weight_byte(content: bytes, entry: zipfile.ZipInfo, directory: int) -> int:
    return entry.header_offset + entry.file_size // 2


def attributes_byte(content: bytes, entry: zipfile.ZipInfo, directory: int) -> int:
    """Where the archive's directory says whether the entry is a folder."""
    return content.index(entry.filename.encode(), directory) - 8


@pytest.mark.parametrize(("place", "bit"), [(weight_byte, 6), (attributes_byte, 4)])
def test_flipped_bit_is_noticed_by_predict_and_explain(
    trained: Workspace, model: Path, tmp_path: Path, place: Callable[..., int], bit: int
):
    """The second makes PyTorch's reader take what lies in memory for the weights."""
    path = model / "fold_1" / FINAL
    with zipfile.ZipFile(path) as archive:
        largest, directory = max(archive.infolist(), key=lambda entry: entry.file_size), archive.start_dir
    content = bytearray(path.read_bytes())
    content[place(content, largest, directory)] ^= 1 << bit
    path.write_bytes(content)
    named = rf"^{path} cannot be loaded \(wrong checksum of its entry {largest.filename}\): restore it"
    with pytest.raises(SystemExit, match=named):
        predict(trained, tmp_path)
    with pytest.raises(SystemExit, match=named):
        load_predictor(model, 1, FINAL, "cpu")
    assert not (tmp_path / "out").exists()


def test_checkpoint_that_runs_code_is_not_loaded_by_predict_and_explain(
    trained: Workspace, model: Path, tmp_path: Path
):
    path, made = model / "fold_0" / FINAL, tmp_path / "made by the checkpoint"
    checkpoint = torch.load(path, weights_only=False)
    torch.save({**checkpoint, "logging": Hostile(made)}, path)
    with pytest.raises(SystemExit, match=f"^{path} holds .*mkdir, which may run code and was not loaded: only tensors"):
        predict(trained, tmp_path)
    with pytest.raises(SystemExit, match=f"^{path} holds .*mkdir, which may run code and was not loaded: only tensors"):
        load_predictor(model, 0, FINAL, "cpu")
    assert not made.exists()


def test_weights_without_numbers_predict_nothing(trained: Workspace, model: Path, tmp_path: Path):
    path = model / "fold_0" / FINAL
    checkpoint = torch.load(path, weights_only=False)
    name = next(name for name, weight in checkpoint["network_weights"].items() if weight.is_floating_point())
    checkpoint["network_weights"][name] *= torch.nan
    torch.save(checkpoint, path)
    named = r"^Not predicted: as_large \(the network's output is not a number: .*; larger \(.*; smaller \("
    with pytest.raises(SystemExit, match=named):
        predict(trained, tmp_path)
    assert list((tmp_path / "out").glob("*.nii.gz")) == []
