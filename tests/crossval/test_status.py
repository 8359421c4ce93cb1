"""``nnunet-sfma status`` on what others left: damaged files, fold all, models from a zip."""

import json
import shutil

import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.crossval.lock import locked
from nnunet_sfma.crossval.models import Model, find_models, keep_split_and_plans
from tests.conftest import Workspace
from tests.crossval.conftest import fold_log
from tests.trainers.conftest import TRAINER

LOG = """
2026-01-01 00:00:00.000000: Epoch 1
2026-01-01 00:00:09.000000: train_loss -0.5214
2026-01-01 00:00:09.000000: Pseudo dice [np.float32(0.75), np.float32(0.25)]
2026-01-01 00:00:09.000000: Epoch time: 6.94 s
2026-01-01 00:00:09.000000: Epoch 2
"""


@pytest.fixture
def model(two_folds: Workspace) -> Model:
    """A model whose fold 0 was interrupted in epoch 2."""
    (model,) = find_models(1, [TRAINER], ["tiny"], "2d")
    keep_split_and_plans(model)
    write_fold(model, 0, "checkpoint_latest.pth", LOG)
    return model


def write_fold(model: Model, number: int | str, checkpoint: str, log: str | None) -> None:
    folder = model.folder / f"fold_{number}"
    folder.mkdir(parents=True)
    torch.save({"network_weights": {}}, folder / checkpoint)
    if log is not None:
        (folder / "training_log_2026_1_1_00_00_00.txt").write_text(log)


def write_summary(model: Model, number: int | str, dice: float) -> None:
    (model.folder / f"fold_{number}" / "validation").mkdir(exist_ok=True)
    summary = {"foreground_mean": {"Dice": dice}}
    (model.folder / f"fold_{number}" / "validation" / "summary.json").write_text(json.dumps(summary))


def look(capsys) -> tuple[list[dict], str]:
    """The rows and the notes."""
    capsys.readouterr()
    main(["status", "-d", "1", "--json"])
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


def states(rows: list[dict]) -> dict[int | str, str]:
    return {row["fold"]: row["state"] for row in rows}


def test_logs_that_a_kill_cut_off_or_that_are_damaged(model, capsys):
    (log,) = model.folder.glob("fold_0/training_log_*.txt")
    log.with_name("training_log_2025_12_31_23_59_59.txt").write_text("x: train_loss 7.0\n")  # copied later
    lines = LOG.splitlines(keepends=True)
    for cut in range(1, 8):
        for line in range(1, len(lines)):  # every line, cut off within its message
            message = lines[line].index(": ") + 2
            log.write_text("".join(lines[:line]) + lines[line][: message + 2 * cut])
            (row, _), notes = look(capsys)
            assert (row["loss"], row["pseudo_dice"]) == (-0.5214 if line > 2 else None, 0.5 if line > 3 else None)
            assert notes == ""
    wrong = ("train_loss -", "train_loss 1.2.3", "Pseudo dice []", "Epoch time: 1e999 s", "Epoch ²")
    log.write_text(LOG + "".join(f"x: {message}\n" for message in wrong))
    (row, _), _ = look(capsys)
    assert (row["epoch"], row["loss"], row["pseudo_dice"]) == (2, -0.5214, None)
    fold_log(Workspace(model.folder.parents[2]), 0).write_text("$ nnUNetv2_train\n[ended with exit code ")
    assert states(look(capsys)[0]) == {0: "interrupted", 1: "not trained"}


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "[" * 10_000, '{"folds": [], "pid": -1}', "\udcff"])
def test_damaged_json_ends_nothing(model, capsys, content):
    content = content.encode(errors="surrogateescape")
    damaged = [
        model.notes / f"{model.identifier}.slurm.json",
        model.preprocessed / "tiny.json",
        model.preprocessed / "splits_final.json",
        model.folder / "fold_0" / "validation" / "summary.json",
    ]
    damaged[-1].parent.mkdir()
    for path in damaged:
        path.write_bytes(content)
    with locked([model], "crossval"):
        (model.notes / f"{model.identifier}.lock").write_bytes(content)
        rows, notes = look(capsys)
        with pytest.raises(SystemExit, match=r"slurm.json is damaged .*: look for the jobs with squeue"):
            main(["status", "-d", "1", "--cancel"])
    assert states(rows) == {0: "interrupted"} and rows[0]["num_epochs"] is None
    told = notes.splitlines()
    assert len(told) == 2 and all(line.startswith("Note: ") and "is damaged" in line for line in told)
    assert "slurm.json" in notes and "splits_final.json" in notes


def test_what_cannot_be_read_is_named_and_the_others_shown(model, capsys):
    (log,) = model.folder.glob("fold_0/training_log_*.txt")
    log.unlink()
    log.mkdir()  # as little a file as one without permission, and so for root as well
    write_fold(model, 1, "checkpoint_latest.pth", LOG)
    rows, notes = look(capsys)
    assert states(rows) == {0: "cannot be read", 1: "interrupted"}
    assert notes == f"Note: {log} cannot be read (Is a directory): make it readable.\n"


def test_pseudo_dice_and_validated_dice_are_told_apart(model, capsys):
    write_fold(model, 1, "checkpoint_final.pth", LOG)
    write_summary(model, 1, 0.25)
    for case in ("case_3", "case_4", "case_5"):
        (model.folder / "fold_1" / "validation" / f"{case}.nii.gz").touch()
    rows, _ = look(capsys)
    assert [(row["pseudo_dice"], row["validated_dice"]) for row in rows] == [(0.5, None), (0.5, 0.25)]
    main(["status", "-d", "1"])
    title, above, header, first, second = capsys.readouterr().out.splitlines()
    assert above.split() == ["Pseudo", "Validated"] or header.split().count("Dice") == 2
    assert "0.5000" in first and "0.2500" not in first
    assert second.split()[1:6] == ["finished", "3/3", "-0.5214", "0.5000", "0.2500"]


def test_fold_all_alone_is_shown_alone(model, capsys):
    shutil.rmtree(model.notes)
    shutil.rmtree(model.folder)
    write_fold(model, "all", "checkpoint_best.pth", LOG)
    assert states(look(capsys)[0]) == {"all": "interrupted"}
    write_fold(model, 1, "checkpoint_latest.pth", LOG)
    shutil.move(model.folder / "fold_all" / "checkpoint_best.pth", model.folder / "fold_all" / "checkpoint_final.pth")
    write_summary(model, "all", 0.99)
    rows, _ = look(capsys)
    assert states(rows) == {0: "not trained", 1: "interrupted", "all": "trained on all cases"}
    assert rows[-1]["validated_dice"] is None and rows[-1]["epoch"] == 3


def test_models_from_a_zip_are_installed(model, capsys):
    """What ``nnUNetv2_export_model_to_zip`` takes along: the final checkpoint and the validation's summary."""
    shutil.rmtree(model.notes)
    shutil.rmtree(model.folder)
    for fold in (1, "all"):
        write_fold(model, fold, "checkpoint_final.pth", None)
        write_summary(model, fold, 0.5)
    shutil.copy(model.preprocessed / "tiny.json", model.folder / "plans.json")
    rows, notes = look(capsys)
    assert states(rows) == {1: "installed", "all": "installed, trained on all cases"} and notes == ""
    assert [row["validated_dice"] for row in rows] == [0.5, None]
