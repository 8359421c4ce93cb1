"""Checkpoints that are not what was trained: damaged, hostile, or without numbers."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnunet_sfma.explaining.trained_model import load_predictor
from nnunet_sfma.prediction.__main__ import main
from nnunet_sfma.presets import merge
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


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"spacing": [7.0, 7.0]}, r"spacing: \[.*\] then, \[7.0, 7.0\] now"),
        ({"normalization_schemes": ["NoNormalization"]}, "normalization_schemes: .* then, .* now"),
        ({"architecture": {"arch_kwargs": {"sgu_threshold": 0.2}}}, "sgu_threshold: 0.5 then, 0.2 now"),
        ({"training": {"num_epochs": 9}, "batch_size": 7, "resampling_fn_probabilities": "other"}, None),
    ],
)
def test_weights_of_other_plans_predict_and_explain_nothing(
    trained: Workspace, model: Path, tmp_path: Path, changed: dict, named: str | None
):
    """The folder's plans.json is that of the fold that was started last."""
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"] = merge(plans["configurations"]["2d"], changed)
    (model / "plans.json").write_text(json.dumps(plans))
    if named is None:
        load_predictor(model, 1, FINAL, "cpu")
        return
    sentence = rf"^{model / 'fold_0' / FINAL} was trained with other plans than the model's folder holds \(.*{named}"
    with pytest.raises(SystemExit, match=sentence):
        predict(trained, tmp_path)
    with pytest.raises(SystemExit, match=sentence.replace("fold_0", "fold_1")):
        load_predictor(model, 1, FINAL, "cpu")


def test_weights_of_other_labels_predict_nothing(trained: Workspace, model: Path, tmp_path: Path):
    dataset = json.loads((model / "dataset.json").read_text())
    dataset["regions_class_order"] = dataset["regions_class_order"][::-1]
    (model / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(SystemExit, match=r"other plans .* \(regions_class_order: \[1, 2\] then, \[2, 1\] now\)"):
        predict(trained, tmp_path)


def test_weights_of_other_hounsfield_units_explain_nothing(trained: Workspace, model: Path):
    """nnU-Net's CTNormalization takes mean and deviation from the plans; one NaN is like another."""
    path = model / "fold_1" / FINAL
    checkpoint = torch.load(path, weights_only=False)
    plans = checkpoint["init_args"]["plans"]
    plans["configurations"]["2d"]["normalization_schemes"] = ["CTNormalization"]
    plans["foreground_intensity_properties_per_channel"] = {"0": {"mean": 40.0, "std": float("nan")}}
    torch.save(checkpoint, path)
    (model / "plans.json").write_text(json.dumps(plans))
    load_predictor(model, 1, FINAL, "cpu")
    plans["foreground_intensity_properties_per_channel"]["0"]["mean"] = 50.0
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(SystemExit, match=r"\(foreground_intensity_properties_per_channel.0.mean: 40.0 then, 50.0 now"):
        load_predictor(model, 1, FINAL, "cpu")


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
