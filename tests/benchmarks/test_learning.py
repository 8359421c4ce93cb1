"""The learning benchmarks run from end to end on tiny data, and their checks can fail."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnunet_sfma.errors import UserError
from tests.conftest import Workspace
from tests.dataset_conversion.releases import build_glas, build_isles

LEARNING = Path(__file__).resolve().parents[2] / "benchmarks" / "learning"


def start(script: str, *arguments: str) -> str:
    """What ``python benchmarks/learning/SCRIPT.py ARGUMENTS`` prints."""
    command = [sys.executable, str(LEARNING / f"{script}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def augmentation_process(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's planner refuses to work where there is none."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """``module(name)``: a module of the learning benchmarks."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(LEARNING)])
    return importlib.import_module


@pytest.mark.slow
def test_study_trains_compares_and_goes_on(workspace: Workspace, tmp_path: Path):
    cases = [f"case_{number}" for number in range(6)]
    folds = [{"train": cases[:3], "val": cases[3:]}, {"train": cases[3:], "val": cases[:3]}]
    (workspace.preprocessed / workspace.plain / "splits_final.json").write_text(json.dumps(folds))
    study = ("hippocampus", "-d", "1", "--epochs", "1", "--iterations", "2", "-o", str(tmp_path))
    start(*study, "--models", "unet")
    checkpoints = {path: path.stat().st_mtime_ns for path in workspace.results.rglob("checkpoint_final.pth")}
    assert len(checkpoints) == 2
    printed = start(*study, "--models", "unet")
    assert {path: path.stat().st_mtime_ns for path in workspace.results.rglob("checkpoint_final.pth")} == checkpoints
    assert f"Wrote {tmp_path / 'hippocampus.json'}" in printed
    result = json.loads((tmp_path / "hippocampus.json").read_text())
    assert result["groups"] == {"networks": ["unet"], "ablation": []}
    model = result["models"]["unet"]
    assert [fold["state"] for fold in model["folds"]] == ["finished"] * 2
    assert all(len(fold["curves"]["train_losses"]) == 1 for fold in model["folds"])
    assert model["model"]["training"]["iterations_per_epoch"] == 2 and model["model"]["training"]["seed"] == 1
    assert sorted(row[0] for row in model["cases"]) == cases
    assert len(model["split"]["sha256"]) == 64
    assert model["cost"]["multiply_adds"] > 0
    assert str(workspace.root) not in (tmp_path / "hippocampus.json").read_text()
    assert "Dice" in (tmp_path / "hippocampus_networks" / "summary.md").read_text()


@pytest.mark.slow
def test_a_release_from_the_download_to_the_evaluation(workspace: Workspace, tmp_path: Path):
    source = build_glas(tmp_path)
    start("end_to_end", "glas", str(source), "--epochs", "1", "--iterations", "1", "-o", str(tmp_path))
    text = (tmp_path / "end_to_end_glas.json").read_text()
    result = json.loads(text)
    commands = [" ".join(command.split()[:2]) for command in result["seconds"]]
    assert commands[0] == "nnunet-sfma convert" and commands[-1] == "nnunet-sfma evaluate"
    assert str(workspace.root) not in text and str(source) not in text
    assert {row[0].split("_")[0] for row in result["cases"]} == {"testA", "testB"}
    assert result["iterations"] == 1 and result["training_cases"] > 0


@pytest.mark.slow
def test_a_papers_data_set_with_one_command(workspace: Workspace, tmp_path: Path):
    source = build_isles(tmp_path, n=10, size=(3, 12, 6))
    trial = ("--narrow", "--models", "unet", "--device", "cpu", "-o", str(tmp_path))
    start("paper", "isles2022", str(source), *trial)
    result = json.loads((tmp_path / "paper_isles2022-trial.json").read_text())
    model = result["models"]["unet-trial"]
    assert model["epochs"] == 1 and len(model["curves"]["train_losses"]) == 1
    assert len(model["cases"]) == 1, "a tenth of ten subjects is tested, and its three slices are one volume"
    assert model["training"]["optimizer"] == "Adam" and model["training"]["pretrained"] == "none"
    assert model["split"]["scheme"] == "paper" and model["model"]["plans"] == "study-unet-trial"
    text = (tmp_path / "paper_isles2022-trial.md").read_text()
    assert "SFMANet" in text and "cut along X by the conversion, all of them" in text
    assert "resized to 256 x 256 by the conversion and scored at the original size" in text


def test_masks_are_shuffled_among_training_pictures_only(workspace: Workspace, module, monkeypatch):
    sanity = module("sanity")
    names = {dataset: f"Dataset{dataset}_ISIC2018" for dataset in (sanity.TRUE, sanity.SHUFFLED)}
    raw = {dataset: workspace.raw / name for dataset, name in names.items()}
    training, held_out = [f"ISIC_{number}" for number in range(5)], ["ISIC_5", "ISIC_6"]
    for dataset in raw:
        (workspace.preprocessed / names[dataset]).mkdir()
    folds = [{"train": training, "val": held_out}]
    for name in ("splits_final.json", "split_record.json"):
        (workspace.preprocessed / names[sanity.TRUE] / name).write_text(json.dumps(folds))
    (raw[sanity.TRUE] / "labelsTr").mkdir(parents=True)
    for row, case in enumerate(training + held_out):
        mask = np.zeros((8, 8), np.uint8)
        mask[row] = 1
        Image.fromarray(mask).save(raw[sanity.TRUE] / "labelsTr" / f"{case}.png")
    monkeypatch.setattr(sanity, "run", lambda *arguments: None)
    sanity.shuffle_masks()
    sanity.copy_split()
    rows = {case: _row(raw[sanity.SHUFFLED] / "labelsTr" / f"{case}.png") for case in training + held_out}
    own = dict(zip(training + held_out, range(7), strict=True))
    assert all(rows[case] != own[case] for case in training)
    assert sorted(rows[case] for case in training) == list(range(5))
    assert all(rows[case] == own[case] for case in held_out)
    assert (workspace.preprocessed / names[sanity.SHUFFLED] / "splits_final.json").read_text() == json.dumps(folds)
    # every mask is another row: the best constant mask meets none of the held-out ones
    assert sanity.dice_of_constant_mask() == 0
    Image.fromarray(np.ones((8, 8), np.uint8)).save(raw[sanity.TRUE] / "labelsTr" / "ISIC_5.png")
    assert sanity.dice_of_constant_mask() > 0


def test_a_training_is_interrupted_after_its_minutes(workspace: Workspace, module):
    study = module("study")
    assert study.run(["sleep", "60"], "sleep", minutes=0.01) < 30
    with pytest.raises(UserError, match="failed with exit code 1; its output is in .*false.log"):
        study.run(["false"], "false")


def _row(path: Path) -> int:
    return int(np.argmax(np.asarray(Image.open(path)).sum(1)))
