"""A fold knows what it was trained on: whoever continues, validates, evaluates or predicts with it compares first."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.crossval.folds import Fold
from nnunet_sfma.crossval.models import Model
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.evaluation_file import read_evaluation
from nnunet_sfma.evaluation.fold_stage import Stage, fold_stage
from nnunet_sfma.split_record import split_checksum
from nnunet_sfma.trainers.changed_plans import changes_between, label_changes
from nnunet_sfma.trainers.complete_plans import complete_plans
from nnunet_sfma.trainers.fold_lock import alone
from nnunet_sfma.trainers.trained_on import describe_cases
from tests.conftest import SHORT_RECIPE, TINY_NETWORKS, Workspace
from tests.forked_workers import fork_workers
from tests.trainers.conftest import TRAINER, read_checkpoint

CASES = [f"case_{number}" for number in range(6)]
SPLIT = [{"train": CASES[2:], "val": CASES[:2]}, {"train": CASES[:2], "val": CASES[2:]}]
# as many cases on each side, but case_2 was a training case of fold 0 and case_1 none
SWAPPED = [
    {"train": ["case_1", "case_3", "case_4", "case_5"], "val": ["case_0", "case_2"]},
    {"train": ["case_0", "case_2"], "val": ["case_1", "case_3", "case_4", "case_5"]},
]
SMALLER = [{"train": CASES[3:], "val": CASES[:3]}, {"train": CASES[:3], "val": CASES[3:]}]
MODEL = ("-d", "1", "-tr", TRAINER, "-p", "tiny")
FINAL, LATEST = "checkpoint_final.pth", "checkpoint_latest.pth"


@pytest.fixture(scope="module")
def trained(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which nnUNetv2_train trained and validated fold 0 for two epochs; not to be written to."""
    copy = Workspace(tmp_path_factory.mktemp("trained") / "workspace")
    shutil.copytree(prepared.root, copy.root)
    with pytest.MonkeyPatch.context() as patch:
        copy.point_to_it(patch)
        patch.setenv("nnUNet_n_proc_DA", "0")
        fork_workers(patch)
        write_split(copy, SPLIT)
        plan("training.num_epochs=2")
        train()
    return copy.root


@pytest.fixture
def workspace(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The trained workspace, of this test's own."""
    copy = Workspace(tmp_path / "workspace")
    shutil.copytree(trained, copy.root)
    copy.point_to_it(monkeypatch)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    fork_workers(monkeypatch)
    return copy


@pytest.fixture
def fold(workspace: Workspace) -> Path:
    return workspace.results / workspace.plain / f"{TRAINER}__tiny__2d" / "fold_0"


def plan(*settings: str, name: str = "tiny", preset: str = "sfmanet-narrow") -> None:
    command = ["plan", "-d", "1", "--preset", preset, "--name", name, "--overwrite", "--set"]
    main([*command, *TINY_NETWORKS.get(preset, ()), *SHORT_RECIPE, *settings])


def train(trainer: str = TRAINER, plans: str = "tiny", **options) -> None:
    from nnunetv2.run.run_training import run_training

    run_training("1", "2d", 0, trainer, plans, device=torch.device("cpu"), **options)


def write_split(workspace: Workspace, split: list[dict]) -> None:
    (workspace.preprocessed / workspace.plain / "splits_final.json").write_text(json.dumps(split))


def change_checkpoints(fold: Path, change: Callable[[dict], None]) -> None:
    for path in fold.glob("checkpoint_*.pth"):
        content = read_checkpoint(path)
        change(content)
        torch.save(content, path)


def forget_cases(fold: Path) -> None:
    """Make checkpoints of them that an earlier version wrote."""
    change_checkpoints(fold, lambda content: content.pop("trained_on"))


def as_nnunets_own(fold: Path) -> None:
    """Make a model of nnU-Net's own trainer of it, as far as files tell."""
    forget_cases(fold)
    change_checkpoints(fold, lambda content: content.update(trainer_name="nnUNetTrainer"))
    fold.parent.rename(fold.parent.with_name("nnUNetTrainer__tiny__2d"))


def settings_of(content: dict) -> dict:
    return content["init_args"]["plans"]["configurations"]["2d"]


def judging(*model: str) -> list[list[str]]:
    return [["crossval", *model, "-device", "cpu", "--dry-run"], ["evaluate", *model, "-f", "0", "-np", "1"]]


def test_each_checkpoint_keeps_the_cases(fold):
    for name in (FINAL, "checkpoint_best.pth"):
        kept = read_checkpoint(fold / name)["trained_on"]
        assert kept["training"] == CASES[2:] and kept["validation"] == CASES[:2]
        assert kept["split_sha256"] == split_checksum(SPLIT[:1], [])
        assert kept["history"] == []


def test_checkpoint_has_all_that_nnunet_keeps(fold, tmp_path):
    from nnunetv2.run.run_training import get_trainer_from_args
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    trainer = get_trainer_from_args("1", "2d", 0, TRAINER, "tiny", True, torch.device("cpu"))
    trainer.load_checkpoint(str(fold / FINAL))
    nnUNetTrainer.save_checkpoint(trainer, str(tmp_path / "theirs.pth"))
    trainer.save_checkpoint(str(tmp_path / "ours.pth"))
    theirs, ours = read_checkpoint(tmp_path / "theirs.pth"), read_checkpoint(tmp_path / "ours.pth")
    assert ours.keys() == theirs.keys() | {"trained_on"}
    for key in theirs.keys() - {"network_weights", "optimizer_state"}:
        assert str(ours[key]) == str(theirs[key])


@pytest.mark.parametrize("how", ["continue_training", "only_run_validation"])
def test_another_split_is_neither_continued_nor_validated(workspace, fold, how):
    write_split(workspace, SWAPPED)
    before = (fold / FINAL).read_bytes(), sorted(path.name for path in (fold / "validation").iterdir())
    with pytest.raises(
        UserError, match="fold_0 was trained with another split .*: it was trained on case_2, to be val"
    ):
        train(**{how: True})
    assert before == ((fold / FINAL).read_bytes(), sorted(path.name for path in (fold / "validation").iterdir()))


@pytest.mark.parametrize("split", [SWAPPED, SMALLER])
def test_another_split_is_neither_cross_validated_nor_evaluated(workspace, fold, split):
    write_split(workspace, split)
    for command in judging(*MODEL):
        with pytest.raises(SystemExit, match="another split than there is now: it was trained on case_2, to be valid"):
            main(command)


def test_cases_that_only_left_the_training_are_named(workspace):
    write_split(workspace, [{"train": CASES[3:], "val": CASES[:2]}, SPLIT[1]])
    with pytest.raises(UserError, match="it was trained on case_2; restore the split"):
        train(continue_training=True)


def test_cases_that_were_added_to_fold_all_are_named(fold):
    """It validates on what it is trained on, and no case moved from one side to the other."""
    from nnunetv2.run.run_training import run_training

    fewer = describe_cases(CASES[:5], CASES[:5])
    change_checkpoints(fold, lambda content: content.update(trained_on={**fewer, "history": []}))
    fold.rename(fold.with_name("fold_all"))
    with pytest.raises(UserError, match="another split than there is now: now it trains on case_5; restore the split"):
        run_training("1", "2d", "all", TRAINER, "tiny", continue_training=True, device=torch.device("cpu"))


@pytest.mark.parametrize("make", [forget_cases, as_nnunets_own])
def test_without_cases_in_the_checkpoint_the_logs_are_read(workspace, fold, make):
    (log,) = fold.glob("training_log_*.txt")
    whole = log.read_text()
    make(fold)
    log = log if log.is_file() else fold.parent.with_name("nnUNetTrainer__tiny__2d") / fold.name / log.name
    model = MODEL if make is forget_cases else ("-d", "1", "-tr", "nnUNetTrainer", "-p", "tiny")
    for text in (whole.replace("predicting case_1", "killed"), whole):
        log.write_text(text)
        for command in judging(*model):
            main(command)
    write_split(workspace, SWAPPED)
    for command in judging(*model):
        with pytest.raises(SystemExit, match="its log tells that case_1 were validated"):
            main(command)
    write_split(workspace, SMALLER)
    for command in judging(*model):
        with pytest.raises(SystemExit, match="log tells of 4 training and 2 validation cases, the split has 3 and 3"):
            main(command)


def test_postprocessing_chosen_on_training_cases_is_not_applied(workspace, fold, tmp_path):
    predict = ["predict", *MODEL, "-f", "0", "-i", str(workspace.raw / workspace.plain / "imagesTr"), "-o"]
    predict += [str(tmp_path / "out"), "-device", "cpu", "--dry-run"]
    accumulated = fold.parent / "crossval_results_folds_0"
    accumulated.mkdir()
    (accumulated / "postprocessing.pkl").write_bytes(b"chosen")
    main(predict)
    shutil.copy(fold / "validation" / "case_0.nii.gz", fold / "validation" / "case_2.nii.gz")
    with pytest.raises(SystemExit, match=r"predictions of another split .*\(case_2, on which it was trained\)"):
        main(predict)
    (accumulated / "postprocessing.pkl").unlink()
    main(predict)


@pytest.mark.parametrize("earlier_version", [False, True])
def test_longer_with_another_rate_and_batch(workspace, fold, earlier_version):
    if earlier_version:
        forget_cases(fold)
    changed = ("batch_size=3", "training.initial_lr=0.005", "training.weight_decay=0.07")
    plan("training.num_epochs=3", "training.lr_schedule=constant", "training.lr_schedule_kwargs={}", *changed)
    train(continue_training=True)
    content = read_checkpoint(fold / FINAL)
    assert content["current_epoch"] == 3 and content["logging"]["lrs"][2] == 0.005
    assert {(group["lr"], group["weight_decay"]) for group in content["optimizer_state"]["param_groups"]} >= {
        (0.005, 0.07)
    }
    plans = json.loads((workspace.preprocessed / workspace.plain / "tiny.json").read_text())
    assert settings_of(content) == plans["configurations"]["2d"]
    (entry,) = content["trained_on"]["history"]
    assert entry["epoch"] == 2
    assert entry["changes"]["training.num_epochs"] == (2, 3) and entry["changes"]["batch_size"] == (4, 3)
    assert content["trained_on"]["training"] == CASES[2:]
    said = [line for path in fold.glob("training_log_*") for line in path.read_text().splitlines() if "differ" in line]
    assert (
        len(said) == 1
        and "after epoch 2 with plans that differ from those before: batch_size: 4 then, 3 now" in said[0]
    )
    for command in judging(*MODEL):
        main(command)
    (evaluated,) = read_evaluation(fold.parent)["folds"]
    assert evaluated["detail"] == "3 of 3 epochs"


def test_finished_fold_that_goes_on_and_is_killed_loses_no_epoch(fold):
    plan("training.num_epochs=4")
    process = multiprocessing.get_context("fork").Process(target=continue_and_be_killed, args=(3,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (fold / FINAL).exists()
    assert read_checkpoint(fold / LATEST)["current_epoch"] == 3
    train(continue_training=True)
    assert read_checkpoint(fold / FINAL)["current_epoch"] == 4
    assert len(list(fold.glob("*.pth"))) == 2, "final and best"


def test_plans_are_not_changed_under_a_finished_fold(fold):
    plan("training.num_epochs=2", "training.initial_lr=0.005")
    before = (fold / FINAL).read_bytes()
    with pytest.raises(UserError, match=r"has 2 of 2 epochs.*training.initial_lr: .*raise training.num_epochs as well"):
        train(continue_training=True)
    assert (fold / FINAL).read_bytes() == before


def test_trial_without_checkpoints_leaves_a_finished_fold_alone(fold):
    before = {path.name: path.read_bytes() for path in fold.glob("*.pth")}
    train(disable_checkpointing=True)
    assert {path.name: path.read_bytes() for path in fold.glob("*.pth")} == before


def test_fold_that_an_earlier_version_left_with_the_plans_of_before_is_mended(fold):
    forget_cases(fold)
    change_checkpoints(fold, lambda content: settings_of(content)["training"].update(num_epochs=1))
    evaluate = judging(*MODEL)[1]
    with pytest.raises(SystemExit, match="training.num_epochs: 1 then, 2 now.*: continue it with --c"):
        main(evaluate)
    train(continue_training=True)
    main(evaluate)
    assert read_evaluation(fold.parent)["folds"][0]["detail"] == "2 of 2 epochs"


def test_validation_that_breaks_off_leaves_no_finished_fold(workspace, fold):
    """Of its predictions some would be of other weights than the others, and the summary of before vouch for them."""
    shutil.copy(fold / FINAL, fold / "checkpoint_best.pth")
    (data,) = (workspace.preprocessed / workspace.plain).glob(f"*/{CASES[1]}.b2nd")
    data.write_bytes(b"")
    with pytest.raises(Exception, match=r"."):
        train(only_run_validation=True, val_with_best=True)
    assert fold_stage(fold, CASES[:2], ".nii.gz") == Stage.TRAINED
    with pytest.raises(SystemExit, match="Fold 0 was not validated to the end: run nnUNetv2_train 1 2d 0 .* --val"):
        main(judging(*MODEL)[1])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("architecture.iem_stages=0",), r"architecture.arch_kwargs.iem_stages: 1 then, 0 now"),
        (("training.optimizer=SGD", 'training.optimizer_kwargs={"momentum":0.9}'), "training.optimizer: Adam then"),
        (('training.optimizer_kwargs={"betas":[0.5,0.9]}',), r"training.optimizer_kwargs.betas: \[0.9, 0.999\] then"),
    ],
)
def test_another_network_or_optimiser_is_refused_before_the_training(fold, settings, named):
    plan("training.num_epochs=3", *settings)
    before = (fold / FINAL).read_bytes()
    with pytest.raises(UserError, match=f"fold_0 cannot be continued with these plans.*{named}"):
        train(continue_training=True)
    assert (fold / FINAL).read_bytes() == before and (fold / "validation" / "summary.json").is_file()
    with pytest.raises(SystemExit, match=f"fold_0 is of other plans than tiny holds now .*{named}"):
        main(judging(*MODEL)[0])


def test_switch_that_plans_of_before_did_not_name_is_at_its_default(fold):
    change_checkpoints(fold, lambda content: settings_of(content)["architecture"]["arch_kwargs"].pop("sgu_gate"))
    plan("training.num_epochs=3", "architecture.sgu_gate=disjoint")
    with pytest.raises(UserError, match="architecture.arch_kwargs.sgu_gate: kept then, disjoint now"):
        train(continue_training=True)
    plan("training.num_epochs=2")
    main(judging(*MODEL)[0])
    plan("training.num_epochs=3")
    train(continue_training=True)
    assert read_checkpoint(fold / FINAL)["current_epoch"] == 3


@pytest.mark.parametrize("checkpoints", [True, False], ids=["by checkpoints", "by the model's folder alone"])
def test_plans_replaced_under_folds_of_nnunets_own_trainer_start_nothing(workspace, fold, checkpoints):
    as_nnunets_own(fold)
    model = workspace.results / workspace.plain / "nnUNetTrainer__tiny__2d"
    crossval = judging("-d", "1", "-tr", "nnUNetTrainer", "-p", "tiny")[0]
    main(crossval)
    plan("training.num_epochs=2", "patch_size=[24,24]")
    if checkpoints:
        shutil.copy(workspace.preprocessed / workspace.plain / "tiny.json", model / "plans.json")
    else:
        for path in model.glob("fold_0/checkpoint_*.pth"):
            path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SystemExit, match=r"is of other plans than tiny holds now \(patch_size: \[40, 32\] then, "):
        main(crossval)


def test_plans_of_nnunets_own_are_no_others_than_what_a_trainer_made_of_them(workspace):
    own = json.loads((workspace.preprocessed / workspace.plain / "nnUNetPlans.json").read_text())
    completed = complete_plans(own, "2d", "sfmanet", workspace.root / "no_model_yet")
    assert "training" in completed["configurations"]["2d"]
    assert changes_between(completed, own, "2d") == {}
    own["configurations"]["2d"]["batch_size"] += 1
    assert list(changes_between(completed, own, "2d")) == ["batch_size"]


def test_other_labels_are_refused(workspace):
    path = workspace.preprocessed / workspace.plain / "dataset.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps({**description, "labels": {**description["labels"], "core": 2}}))
    with pytest.raises(UserError, match=r"cannot be continued .*labels: \[0, 1\] then, \[0, 1, 2\] now"):
        train(continue_training=True)


def test_another_patch_is_not_validated_with(fold):
    plan("training.num_epochs=2", "patch_size=[24,24]")
    with pytest.raises(UserError, match="cannot be validated with these plans .*patch_size"):
        train(only_run_validation=True)


def test_models_that_new_plans_or_splits_leave_behind_are_named(workspace, capsys):
    plan("training.num_epochs=2")
    assert "Trained with" not in capsys.readouterr().out
    plan("training.num_epochs=5")
    assert f"Trained with the plan tiny that was replaced: {TRAINER}__tiny__2d (fold 0)" in capsys.readouterr().out
    main(["splits", "-d", "1", "--scheme", "five-fold", "--overwrite"])
    assert f"Trained with the split that was replaced: {TRAINER}__tiny__2d (fold 0)" in capsys.readouterr().out
    main(["splits", "-d", "1", "--scheme", "five-fold", "--overwrite"])
    assert "Trained with" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("preset", "other"), [("danie-l", "nnUNetTrainerDANIE_S"), ("danie-s", "nnUNetTrainerDANIE_L")]
)
def test_trainer_of_one_size_refuses_the_other(workspace, preset, other):
    from nnunetv2.run.run_training import get_trainer_from_args

    plan("training.pretrained=none", "patch_size=[32,32]", name="sized", preset=preset)
    named = f"nnUNetTrainer{preset.upper().replace('-', '_')}"
    options = {"configuration": "2d", "fold": 0, "plans_identifier": "sized", "device": torch.device("cpu")}
    with pytest.raises(UserError, match=rf"describe DANIE with the widths .* of {named}, not of {other}: choose that"):
        get_trainer_from_args("1", trainer_name=other, **options)  # first of all in nnUNetv2_train
    assert not list(workspace.results.glob(f"*/{other}*"))
    for trainer in (named, "nnUNetTrainerDANIE"):
        assert get_trainer_from_args("1", trainer_name=trainer, **options).num_epochs > 0


def continue_and_be_killed(epoch: int) -> None:
    from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe

    start_epoch = nnUNetTrainerRecipe.on_epoch_start

    def start_or_die(trainer) -> None:
        if trainer.current_epoch == epoch:
            os.kill(os.getpid(), signal.SIGKILL)
        start_epoch(trainer)

    nnUNetTrainerRecipe.on_epoch_start = start_or_die
    train(continue_training=True)


def train_until_killed(begun) -> None:
    from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe

    def wait(trainer, batch) -> None:
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        worker.start()  # like nnU-Net's augmentation workers, which outlive a killed training for a while
        begun.put(worker.pid)
        time.sleep(600)

    nnUNetTrainerRecipe.train_step = wait
    train()


def test_second_training_of_a_fold_is_refused(workspace, fold):
    context = multiprocessing.get_context("fork")
    begun = context.Queue()
    process = context.Process(target=train_until_killed, args=(begun,))
    process.start()
    try:
        begun.get(timeout=300)
        replaced = fold / "checkpoint_replaced.pth"
        assert replaced.is_file()
        logs = len(list(fold.glob("validation/*")))
        with pytest.raises(UserError, match=rf"fold_0 is being trained or validated by process {process.pid} on "):
            train()
        Fold(Model(workspace.plain, TRAINER, "tiny", "2d"), 0).prepare()
        assert replaced.is_file() and len(list(fold.glob("validation/*"))) == logs
    finally:
        process.kill()
        process.join()
    with alone(fold):  # although its worker still runs
        pass


def test_order_of_labels_counts_for_regions_alone():
    channels = {"channel_names": {"0": "T1"}}
    one, other = ({**channels, "labels": dict(labels)} for labels in ([("a", 0), ("b", 1)], [("b", 1), ("a", 0)]))
    assert label_changes(one, other) == {}
    one["labels"]["c"], other["labels"] = [1, 2], {"c": [1, 2], **other["labels"]}
    assert label_changes(one, other).keys() == {"labels"}
