"""``nnunet-sfma crossval`` and ``status`` on this machine, with real trainings, real kills and real results."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess

import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.crossval.cross_validate import CrossValidation, keep_notes
from nnunet_sfma.crossval.devices import Device
from nnunet_sfma.crossval.folds import Fold
from nnunet_sfma.split_record import read_splits
from nnunet_sfma.trainers.checkpoints import replace_training
from tests.crossval.conftest import (
    CROSSVAL,
    files_of,
    fold_log,
    has_line,
    model_folder,
    started_commands,
    take_the_place_of_the_validation,
    wait_for,
    write_folds,
)
from tests.trainers.conftest import TRAINER, read_checkpoint

TRAIN = f"nnUNetv2_train 1 2d {{}} -tr {TRAINER} -p tiny -device cpu"


def rows(capsys, *options: str) -> list[dict]:
    capsys.readouterr()
    main(["status", "-d", "1", "--json", *options])
    return json.loads(capsys.readouterr().out)


def epochs_started(workspace, fold: int) -> list[int]:
    logs = sorted((model_folder(workspace) / f"fold_{fold}").glob("training_log_*.txt"))
    return [int(number) for log in logs for number in re.findall(r": Epoch (\d+) *$", log.read_text(), re.MULTILINE)]


@pytest.mark.slow
def test_killed_twice_ends_like_an_undisturbed_one(two_folds, start, capsys):
    driver = start(*CROSSVAL)
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    undisturbed = files_of(two_folds)
    assert "crossval/report.html" in "\n".join(undisturbed)
    assert [started_commands(two_folds, fold) for fold in (0, 1)] == [[TRAIN.format(0)], [TRAIN.format(1)]]
    for fold, row in enumerate(rows(capsys)):
        log = read_checkpoint(model_folder(two_folds) / f"fold_{fold}" / "checkpoint_final.pth")["logging"]
        assert (row["fold"], row["state"], row["epoch"], row["num_epochs"]) == (fold, "finished", 3, 3)
        assert row["loss"] == pytest.approx(log["train_losses"][-1], abs=1e-4)
        assert row["pseudo_dice"] == pytest.approx(log["mean_fg_dice"][-1], abs=1e-4)

    capsys.readouterr()
    main([*CROSSVAL, "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"# {TRAINER} tiny fold {fold} is finished" for fold in (0, 1)]
    # of other folds or by other conventions, for all that can be known
    assert [line.split()[1] for line in lines[2:]] == ["evaluate", "report"]

    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.delenv("nnUNet_preprocessed")
        assert [row["state"] for row in rows(capsys)] == ["finished", "finished"]

    shutil.rmtree(two_folds.results / two_folds.plain)
    for fold in (0, 1):
        driver = start(*CROSSVAL)
        wait_for(lambda fold=fold: has_line(fold_log(two_folds, fold), "-p tiny -device cpu\n"))
        wait_for(lambda fold=fold: (model_folder(two_folds) / f"fold_{fold}" / "checkpoint_latest.pth").exists())
        pause = random.uniform(0, 3)
        print(f"killed {pause:.2f} s after the first checkpoint of fold {fold}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(pause)
        driver.kill()
        driver.communicate()
    driver = start(*CROSSVAL)
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert files_of(two_folds) == undisturbed
    for fold in (0, 1):
        commands = started_commands(two_folds, fold)
        assert commands.count(TRAIN.format(fold)) == 1 and len(commands) <= 3
        assert len(epochs_started(two_folds, fold)) <= 3 + 2
        log = read_checkpoint(model_folder(two_folds) / f"fold_{fold}" / "checkpoint_final.pth")["logging"]
        assert len(log["train_losses"]) == 3


@pytest.mark.slow
def test_second_driver_refuses_and_cancel_ends_the_first(two_folds, plan, start, capsys):
    plan("training.num_epochs=1000", name="long")
    driver = start(*CROSSVAL, "-p", "long")
    wait_for(lambda: has_line(fold_log(two_folds, 0, "long"), ": Epoch 0"))
    first, second = rows(capsys)
    assert (first["state"], second["state"]) == ("training", "waiting")
    refused = start(*CROSSVAL, "-p", "long")
    printed = refused.communicate()[0].splitlines()[-1]
    assert refused.returncode == 1
    assert f"are being worked on by process {driver.pid} on " in printed and "--cancel" in printed
    main(["status", "-d", "1", "--cancel"])
    assert driver.wait(60) == 128 + signal.SIGTERM
    assert rows(capsys)[0]["state"] in ("not trained", "interrupted")
    assert rows(capsys)[1]["state"] == "not trained"
    capsys.readouterr()
    main(["status", "-d", "1", "--cancel"])
    assert "Nothing was running." in capsys.readouterr().err


@pytest.mark.slow
def test_fold_that_fails_does_not_stop_the_others(two_folds, start, capsys):
    """Fold 0 cannot write its validation; what can be known to be wrong with the data is refused before."""
    take_the_place_of_the_validation(two_folds)
    driver = start(*CROSSVAL)
    output = driver.communicate()[0]
    assert driver.returncode == 1
    assert f"{TRAINER} tiny fold 0: ended with exit code 1. The end of {fold_log(two_folds, 0)}:" in output
    assert output.splitlines()[-1] == (
        f"Not finished: {TRAINER} tiny fold 0. Mend it, then give the same command again."
    )
    assert [row["state"] for row in rows(capsys)] == ["failed (1)", "finished"]
    assert not (model_folder(two_folds) / "evaluation").exists()


def test_status_tells_failed_from_waiting_while_others_run(two_folds, capsys):
    from nnunet_sfma.crossval.lock import locked
    from nnunet_sfma.crossval.models import find_models, keep_split_and_plans

    (model,) = find_models(1, [TRAINER], ["tiny"], "2d")
    keep_split_and_plans(model)
    log = fold_log(two_folds, 0)
    log.write_text("\n[2020-01-01 00:00:00]\n$ nnUNetv2_train\n")
    with locked([model], "crossval"):
        assert [row["state"] for row in rows(capsys)] == ["waiting", "waiting"]
        log.write_text("\n[2020-01-01 00:00:00]\n$ nnUNetv2_train\n[ended with exit code 1]\n")
        assert [row["state"] for row in rows(capsys)] == ["waiting", "waiting"]
        log.write_text("\n[2099-01-01 00:00:00]\n$ nnUNetv2_train\n[ended with exit code 1]\n")
        assert [row["state"] for row in rows(capsys)] == ["failed (1)", "waiting"]
        log.write_text("\n[2099-01-01 00:00:00]\n$ nnUNetv2_train\n")
        assert [row["state"] for row in rows(capsys)] == ["training", "waiting"]
    assert [row["state"] for row in rows(capsys)] == ["not trained", "not trained"]


def _pretend_trained(workspace) -> Fold:
    """A fold with plans, checkpoint and predictions, as far as files tell."""
    from nnunet_sfma.crossval.models import find_models, keep_split_and_plans

    (model,) = find_models(1, [TRAINER], ["tiny"], "2d")
    keep_split_and_plans(model)
    fold = Fold(model, 0, "cpu")
    (fold.folder / "validation").mkdir(parents=True)
    torch.save({"network_weights": {}}, fold.folder / "checkpoint_final.pth")
    for name in ("case_0.nii.gz", "case_1.nii.gz", "summary.json"):
        (fold.folder / "validation" / name).touch()
    return fold


def test_folds_of_other_plans_or_another_split_are_refused(two_folds, plan):
    fold = _pretend_trained(two_folds)
    assert fold.next_command() is None
    main([*CROSSVAL, "--dry-run"])
    splits = two_folds.preprocessed / two_folds.plain / "splits_final.json"
    kept = splits.read_text()
    splits.write_text(json.dumps(json.loads(kept)[::-1]))
    with pytest.raises(SystemExit, match="The split was changed since folds of .* were trained"):
        main([*CROSSVAL, "--dry-run"])
    splits.write_text(kept)
    plans = json.loads((fold.model.preprocessed / "tiny.json").read_text())
    plans["configurations"]["2d"]["training"]["num_epochs"] = 50
    (fold.model.preprocessed / "tiny.json").write_text(json.dumps(plans))
    with pytest.raises(SystemExit, match=r"were trained with other plans than tiny holds now \(training\)"):
        main([*CROSSVAL, "--dry-run"])


def test_split_of_folds_that_are_not_asked_for_stays_known(two_folds):
    """Of a fold whose checkpoint does not tell its cases, the copy of the split alone does."""
    fold = _pretend_trained(two_folds)
    splits = two_folds.preprocessed / two_folds.plain / "splits_final.json"
    splits.write_text(json.dumps(json.loads(splits.read_text())[::-1]))
    main([*CROSSVAL, "--dry-run", "--folds", "1"])
    keep_notes(CrossValidation.of([fold.model], [1], [Device("cpu")], False, 1))
    with pytest.raises(SystemExit, match="The split was changed since folds of .* were trained"):
        main([*CROSSVAL, "--dry-run", "--folds", "0"])
    assert read_splits(fold.model.split_copy)[1] == read_splits(splits)[1]


def test_case_that_is_validated_twice_is_refused(two_folds):
    splits = two_folds.preprocessed / two_folds.plain / "splits_final.json"
    first, _ = json.loads(splits.read_text())
    splits.write_text(json.dumps([first, first]))
    with pytest.raises(SystemExit, match="case_0 is validated in fold 0 and in fold 1"):
        main([*CROSSVAL, "--dry-run"])
    main([*CROSSVAL, "--dry-run", "--folds", "0"])


def test_finished_fold_is_not_touched(two_folds):
    fold = _pretend_trained(two_folds)
    (fold.folder / "checkpoint_final.pth").write_bytes(b"whatever is in it")
    fold.prepare()
    assert fold.next_command() is None


def test_accidental_start_over_a_finished_fold_costs_its_validation_only(two_folds):
    """Ended before it had a checkpoint; what it did by then is what the trainer does when it starts."""
    fold = _pretend_trained(two_folds)
    (fold.folder / "validation" / "summary.json").unlink()
    replace_training(fold.folder)
    shutil.copy(fold.folder / "checkpoint_replaced.pth", fold.folder / "checkpoint_best.pth")
    assert fold.next_command()[-1] == "--c"
    fold.prepare()
    assert fold.next_command()[-1] == "--val"


def test_repeated_validation_does_not_count_as_getting_on(two_folds):
    fold = _pretend_trained(two_folds)
    validation = fold.folder / "validation"
    (validation / "case_1.nii.gz").unlink()
    fold.prepare()
    assert not (validation / "summary.json").exists()
    assert fold.next_command()[-1] == "--val"
    before = fold.stamp()
    os.utime(validation / "case_0.nii.gz", (1, 1))
    assert fold.stamp() == before
    (validation / "case_1.nii.gz").touch()
    assert fold.stamp() != before


@pytest.mark.parametrize("others, how", [(["checkpoint_latest.pth"], "--c"), ([], None)])
def test_damaged_final_checkpoint_is_set_aside(two_folds, others, how, capsys):
    fold = _pretend_trained(two_folds)
    for name in others:
        shutil.copy(fold.folder / "checkpoint_final.pth", fold.folder / name)
    final = fold.folder / "checkpoint_final.pth"
    (fold.folder / "validation" / "summary.json").unlink()
    final.write_bytes(final.read_bytes()[:-100])
    fold.prepare()
    assert f"{final} was damaged" in capsys.readouterr().out
    assert (fold.folder / "checkpoint_final.pth.damaged").exists() and not final.exists()
    assert fold.next_command() == TRAIN.format(0).split() + ([how] if how else [])


def test_dry_run_prints_what_would_be_run_and_writes_nothing(two_folds, capsys):
    before = {path: path.stat().st_mtime_ns for path in two_folds.root.rglob("*")}
    main([*CROSSVAL, "--dry-run", "--npz", "--folds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{TRAIN.format(1)} --npz"
    assert lines[1] == f"nnUNetv2_accumulate_crossval_results 1 -c 2d -tr {TRAINER} -p tiny -f 1"
    assert lines[2].startswith("nnUNetv2_determine_postprocessing -i ")
    assert lines[3] == f"nnunet-sfma evaluate -d 1 -c 2d -tr {TRAINER} -p tiny -f 1 -np 1"
    assert lines[4].startswith("nnunet-sfma report ")
    main([*CROSSVAL, "--dry-run", "--seeds", "1-2"])
    assert {path: path.stat().st_mtime_ns for path in two_folds.root.rglob("*")} == before


def test_several_models_and_seeds_go_in_turns(two_folds, plan, capsys):
    plan(name="other", preset="danie-narrow")
    several = ["crossval", "-d", "1", "-tr", TRAINER, "nnUNetTrainerDANIE", "-p", "tiny", "other", "-device", "cpu"]
    main([*several, "--seeds", "3-4", "--dry-run"])
    trained = [line for line in capsys.readouterr().out.splitlines() if line.startswith("nnUNetv2_train")]
    names = [f"-tr {TRAINER} -p tiny-seed{{}}", "-tr nnUNetTrainerDANIE -p other-seed{}"]
    in_turns = [name.format(seed) for seed in (3, 4) for name in names]
    assert [line.split(" 2d ")[1] for line in trained] == [
        f"{fold} {name} -device cpu" for fold in (0, 1) for name in in_turns
    ]


def test_seeded_plans_say_their_seed(two_folds):
    from nnunet_sfma.crossval.models import find_models
    from nnunet_sfma.crossval.seeds import seeded

    (model,) = seeded(find_models(1, [TRAINER], ["tiny"], "2d"), [7])
    plans = json.loads((model.preprocessed / "tiny-seed7.json").read_text())
    assert plans["plans_name"] == model.plans == "tiny-seed7"
    assert plans["configurations"]["2d"]["training"]["seed"] == 7
    with pytest.raises(SystemExit, match="nnUNetPlans has no training block that could hold a seed"):
        seeded(find_models(1, [TRAINER], ["nnUNetPlans"], "2d"), [7])


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["-tr", "nnUNetTrainerNobody"], "nnU-Net finds no trainer 'nnUNetTrainerNobody'"),
        (["-p", "nobody"], "There are no plans .*nobody.json: make them with"),
        (["-p", "tiny", "nnUNetPlans", "-tr", "a", "b", "c"], "3 trainers and 2 plans do not go in pairs"),
        (["-c", "3d_fullres_x"], "has no configuration '3d_fullres_x'"),
        (["--folds", "1,2"], "has no fold 2: it has folds 0 to 1"),
        (["--folds", "3-1"], "2"),
        (["-device", "cuda"], "There is no CUDA device here that torch can use: give -device cpu"),
        (["-device", "mps"], "There is no MPS device here that torch can use: give -device cpu"),
        (["-d", "99"], "There is no data set with id 99"),
    ],
)
def test_refusals(two_folds, arguments, sentence):
    with pytest.raises(SystemExit, match=sentence) as stop:
        main([*CROSSVAL, *arguments, "--dry-run"])
    assert "\n" not in str(stop.value)


def test_without_a_split_nnunets_own_is_drawn(two_folds, capsys):
    from nnunet_sfma.crossval.models import find_models, keep_split_and_plans

    path = two_folds.preprocessed / two_folds.plain / "splits_final.json"
    path.unlink()
    main([*CROSSVAL, "--dry-run"])
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("nnUNetv2_train")]) == 5
    assert not path.exists()
    keep_split_and_plans(find_models(1, [TRAINER], ["tiny"], "2d")[0])
    drawn = path.read_text()
    path.unlink()
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans = json.loads((path.parent / "nnUNetPlans.json").read_text())
    dataset = json.loads((path.parent / "dataset.json").read_text())
    nnUNetTrainer({**plans, "continue_training": False}, "2d", 0, dataset).do_split()
    assert json.loads(path.read_text()) == json.loads(drawn)
    write_folds(two_folds)
