"""What is brought together again, and what is not: by content, whatever the clocks say."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.crossval.models import find_models, keep_split_and_plans
from nnunet_sfma.crossval.results import Accumulation
from tests.conftest import Workspace
from tests.crossval.conftest import CROSSVAL
from tests.trainers.conftest import TRAINER

CASES = {0: ("case_0", "case_1"), 1: ("case_3", "case_4", "case_5")}
LONG_AGO, ONE_DAY = 1_600_000_000, 86_400


@pytest.fixture
def finished(two_folds: Workspace) -> Accumulation:
    """Two folds that are finished and brought together by an older release, as far as files tell."""
    (model,) = find_models(1, [TRAINER], ["tiny"], "2d")
    keep_split_and_plans(model)
    together = model.folder / "crossval_results_folds_0_1"
    together.mkdir(parents=True)
    shutil.copy(model.preprocessed / "dataset.json", model.folder)
    for fold, cases in CASES.items():
        validation = model.folder / f"fold_{fold}" / "validation"
        validation.mkdir(parents=True)
        torch.save({"network_weights": {}}, validation.parent / "checkpoint_final.pth")
        for case in cases:
            shutil.copy(model.preprocessed / "gt_segmentations" / f"{case}.nii.gz", validation)
            shutil.copy(validation / f"{case}.nii.gz", together)
        (validation / "summary.json").write_text("{}")
    for name in ("summary.json", "postprocessing.pkl"):
        (together / name).write_text("{}")
    return Accumulation(model, (0, 1), 1)


def commands(capsys) -> list[str]:
    """The commands that bring the folds together, of those that would be run now."""
    capsys.readouterr()
    main([*CROSSVAL, "--dry-run"])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert [line.split()[1] for line in lines[-2:]] == ["evaluate", "report"]
    return [line.split()[0] for line in lines[:-2] if line.startswith("nnUNetv2_")]


def replace_by_older(path: Path, content: bytes) -> None:
    """What ``rsync -a`` does with a file that another machine wrote."""
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))


BOTH = ["nnUNetv2_accumulate_crossval_results", "nnUNetv2_determine_postprocessing"]


def test_content_counts_and_not_the_clock(finished, capsys):
    finished.prepare()
    labels = finished.model.preprocessed / "gt_segmentations"
    for path in finished.inputs.files:
        os.utime(path, (path.stat().st_mtime + ONE_DAY,) * 2)
    assert commands(capsys) == []
    validation = finished.model.folder / "fold_1" / "validation"
    another = (labels / "case_4.nii.gz").read_bytes()
    for path in (validation / "case_3.nii.gz", validation / "summary.json", labels / "case_3.nii.gz"):
        before = path.read_bytes()
        replace_by_older(path, another)
        assert commands(capsys) == BOTH
        path.write_bytes(before)
    assert commands(capsys) == []

    replace_by_older(validation / "case_3.nii.gz", another)
    finished.prepare()
    assert not (finished.folder / "summary.json").exists()
    (finished.folder / "summary.json").write_text("{}")  # interrupted between the two commands
    assert commands(capsys) == BOTH[1:]


def test_results_of_an_older_release_are_kept_while_they_are_right(finished, capsys):
    assert not finished.inputs.are_noted
    assert commands(capsys) == []
    os.utime(finished.folder / "postprocessing.pkl", (LONG_AGO, LONG_AGO))
    assert commands(capsys) == BOTH[1:]
    (finished.folder / "postprocessing.pkl").touch()
    replace_by_older(finished.model.folder / "fold_1" / "validation" / "case_3.nii.gz", b"another content")
    assert commands(capsys) == BOTH
