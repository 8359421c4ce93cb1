"""Interruption, broken input and full disks."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from tests.trainers.conftest import TRAINER, read_checkpoint

TRAIN = [sys.executable, "-c", "from nnunetv2.run.run_training import run_training_entry as run; run()"]
SFMANET = "nnunet_sfma.networks.sfmanet.model.SFMANet"
CUT_EACH_EPOCH = 'training.lr_schedule_kwargs={"factor":0.5,"patience":0,"threshold":2.0,"threshold_mode":"abs"}'


def start_training(plans: str, *options: str, **kwargs) -> subprocess.Popen:
    command = [*TRAIN, "1", "2d", "0", "-tr", TRAINER, "-p", plans, "-device", "cpu", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **kwargs)


def kill_when(process: subprocess.Popen, line: str) -> None:
    for printed in process.stdout:
        if line in printed:
            os.kill(process.pid, signal.SIGKILL)
            break
    else:
        pytest.fail(f"the training ended before it printed '{line}'")
    process.wait()


@pytest.mark.parametrize("killed_in, moment", [(3, "Training Dice"), (0, "New best moving average")])
def test_killed_and_resumed(workspace, plan, train, killed_in, moment):
    plans = plan("training.num_epochs=5", CUT_EACH_EPOCH)
    folder = workspace.results / workspace.plain / f"{TRAINER}__{plans}__2d" / "fold_0"
    process = start_training(plans)
    next(line for line in process.stdout if line.rstrip().endswith(f"Epoch {killed_in}"))
    kill_when(process, moment)
    assert not (folder / "checkpoint_final.pth").exists()
    before = []
    if killed_in:
        left = read_checkpoint(folder / "checkpoint_latest.pth")
        before = left["logging"]["train_dice"]
        assert len(before) == killed_in
        assert left["_best_ema"] == max(left["logging"]["ema_fg_dice"])
    train(plans, continue_training=True)
    final = read_checkpoint(folder / "checkpoint_final.pth")
    log = final["logging"]
    assert log["train_dice"][:killed_in] == before
    assert {len(values) for values in log.values()} == {5}
    assert final["_best_ema"] == max(log["ema_fg_dice"])
    assert np.allclose(log["lrs"], [1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4])
    assert not list(folder.glob("*.partial"))


def test_latest_checkpoint_knows_of_the_best_of_its_own_epoch(workspace, plan):
    plans = plan("training.num_epochs=2")
    folder = workspace.results / workspace.plain / f"{TRAINER}__{plans}__2d" / "fold_0"
    process = start_training(plans)
    kill_when(process, "Epoch 1")
    best, latest = (read_checkpoint(folder / f"checkpoint_{name}.pth") for name in ("best", "latest"))
    assert latest["_best_ema"] == best["_best_ema"] == latest["logging"]["ema_fg_dice"][0]
    assert {len(values) for values in best["logging"].values()} == {1}


def test_loss_that_is_not_finite_stops_with_epoch_iteration_and_cases(plan, train):
    with pytest.raises(UserError, match=r"loss is (nan|-?inf) in epoch 0, iteration [01], cases case_\d.*initial_lr"):
        train(plan("training.num_epochs=1", "training.initial_lr=1e30", "training.precision=fp32"))


def test_gradient_that_is_not_finite_stops_before_it_ruins_the_weights(workspace, plan, train):
    plans = plan("training.num_epochs=1", "training.dice_weight=1e38", "training.ce_weight=0")
    with pytest.raises(UserError, match="gradient's norm is inf in epoch 0, iteration 0, cases case_"):
        train(plans)
    assert not list(workspace.results.rglob("*.pth"))


def test_with_several_gpus_a_loss_that_is_not_finite_accuses_the_cases_of_all(workspace, plan):
    trainer = get_trainer_from_args("1", "2d", 0, TRAINER, plan(), device=torch.device("cpu"))
    trainer.initialize()
    torch.nn.init.constant_(next(trainer.network.parameters()), torch.nan)
    batch = {"data": torch.zeros(4, 1, 40, 32), "target": torch.zeros(4, 1, 40, 32), "keys": ["case_0", "case_1"]}
    trainer.is_ddp = True
    with pytest.raises(UserError, match="case_0, case_1: look for broken voxels in these and in those that the other"):
        trainer.train_step(batch)


@pytest.mark.parametrize("step", ["train_step", "validation_step"])
@pytest.mark.parametrize("error", ["CUDA out of memory. Tried", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"])
def test_lack_of_memory_says_what_to_make_smaller(workspace, plan, error, step):
    trainer = get_trainer_from_args("1", "2d", 0, TRAINER, plan(), device=torch.device("cpu"))
    trainer.initialize()
    batch = {"data": torch.zeros(4, 1, 40, 32), "target": torch.zeros(4, 1, 40, 32), "keys": ["case_0"]}

    def fail(network, inputs):
        raise RuntimeError(error)

    trainer.network.register_forward_pre_hook(fail)
    with pytest.raises(UserError, match=rf"does not suffice for batch size 4 and patch \[40, 32\] \({error}\): make"):
        getattr(trainer, step)(batch)


def test_full_disk_leaves_the_last_checkpoint(workspace, plan, train):
    plans = plan("training.num_epochs=4")
    folder = workspace.results / workspace.plain / f"{TRAINER}__{plans}__2d" / "fold_0"
    process = start_training(plans)
    kill_when(process, "Epoch 2")
    checkpoint = folder / "checkpoint_latest.pth"
    before = checkpoint.read_bytes()
    limit = len(before) // 2

    def limit_file_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start_training(plans, "--c", preexec_fn=limit_file_size)
    output = process.communicate()[0]
    assert process.returncode == 1
    last = output.rstrip().splitlines()[-1]
    assert last.startswith("Could not write") and "continue with --c" in last
    assert "Traceback" not in output
    assert checkpoint.read_bytes() == before
    assert not list(folder.glob("*.partial"))


def test_default_plans_are_completed_and_survive_a_changed_preset(workspace, train, tmp_path, monkeypatch):
    from nnunet_sfma import presets
    from tests.trainers.test_training import predict, voxels

    folder = tmp_path / "plans"
    folder.mkdir()
    monkeypatch.setattr(presets, "presets_folder", lambda: folder)
    write_preset(folder, widths=[16, 32], epochs=1)
    fold = train("nnUNetPlans")
    saved = json.loads((fold.parent / "plans.json").read_text())["configurations"]["2d"]
    assert saved["architecture"]["arch_kwargs"]["features_per_stage"] == [16, 32]
    assert saved["training"]["num_epochs"] == 1
    images = workspace.raw / workspace.plain / "imagesTr"
    predict(fold.parent, images, tmp_path / "before")

    write_preset(folder, widths=[32, 64], epochs=2)
    predict(fold.parent, images, tmp_path / "after")
    for path in (tmp_path / "before").glob("*.nii.gz"):
        assert np.array_equal(voxels(path), voxels(tmp_path / "after" / path.name))
    train("nnUNetPlans", only_run_validation=True)
    second = train("nnUNetPlans", fold=1)
    weights = [read_checkpoint(f / "checkpoint_final.pth")["network_weights"] for f in (fold, second)]
    assert [w.shape for w in weights[0].values()] == [w.shape for w in weights[1].values()]


def write_preset(folder: Path, widths: list[int], epochs: int) -> None:
    from nnunet_sfma.presets import __file__ as module

    original = Path(module).parents[1] / "plans" / "sfmanet.json"
    if not original.is_file():
        original = Path(module).parent / "plans" / "sfmanet.json"
    preset = json.loads(original.read_text())
    preset["architecture"]["arch_kwargs"].update(features_per_stage=widths, iem_stages=1)
    preset["training"].update(num_epochs=epochs, iterations_per_epoch=1, val_iterations_per_epoch=1)
    (folder / "sfmanet.json").write_text(json.dumps(preset))


def edit_plans(workspace, plans: str, **changes) -> None:
    path = workspace.preprocessed / workspace.plain / f"{plans}.json"
    content = json.loads(path.read_text())
    content["configurations"]["2d"].update(changes)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"patch_size": [8, 32, 32]}, "'2d' is a 3D configuration"),
        ({"previous_stage": "2d"}, "part of a cascade"),
        (
            {"architecture": {"network_class_name": "some.Network"}},
            "describe Network, which nnUNetTrainerSFMANet does not",
        ),
        ({"spacing": [0, 1.0]}, r"plans file 'tiny' is damaged \(configurations.2d.spacing\[0\]: 0 is less than"),
        ({"spacing": [-1.0, 1.0]}, r"configurations.2d.spacing\[0\]: -1.0 is less than"),
        ({"batch_size": 10**40}, "configurations.2d.batch_size: "),
        ({"batch_size": 1.5}, "configurations.2d.batch_size: 1.5 is not of type 'integer'"),
        ({"training": {"num_epoch": 3}}, "unknown key 'num_epoch'.*did you mean num_epochs"),
        ({"training": {"num_epochs": 3}}, "the training block lacks"),
        ({"training": None}, "the training block must be an object"),
        ({"architecture": [1]}, "configurations.2d.architecture: .1. is not of type 'object'"),
        ({"architecture": {}}, "describe no network, which nnUNetTrainerSFMANet does not"),
        ({"architecture": {"network_class_name": SFMANET}}, "architecture block lacks 'arch_kwargs'"),
    ],
)
def test_plans_that_do_not_fit_end_in_one_sentence_and_write_nothing(workspace, plan, train, changes, sentence):
    plans = plan("training.num_epochs=1")
    edit_plans(workspace, plans, **changes)
    with pytest.raises(UserError, match=sentence):
        train(plans)
    assert not list(workspace.results.iterdir())


def test_published_weights_for_a_network_that_takes_none_are_refused(workspace, plan, train):
    plans = plan()
    path = workspace.preprocessed / workspace.plain / f"{plans}.json"
    path.write_text(path.read_text().replace('"pretrained": "none"', '"pretrained": "imagenet"'))
    with pytest.raises(UserError, match="No published weights fit this SFMANet"):
        train(plans)
    assert not list(workspace.results.iterdir())


def test_plans_without_an_architecture_end_in_one_sentence(workspace, plan, train):
    plans = plan()
    path = workspace.preprocessed / workspace.plain / f"{plans}.json"
    content = json.loads(path.read_text())
    del content["configurations"]["2d"]["architecture"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="configuration '2d', are incomplete"):
        train(plans)


def test_plans_of_a_foreign_network_without_a_recipe_are_refused(workspace, train):
    edit_plans(workspace, "nnUNetPlans", architecture={"network_class_name": "some.Network"})
    with pytest.raises(UserError, match="describe another network, some.Network"):
        train("nnUNetPlans")


def test_widths_that_the_network_refuses_end_in_the_rule(workspace, plan, train):
    plans = plan("training.num_epochs=1")
    path = workspace.preprocessed / workspace.plain / f"{plans}.json"
    content = json.loads(path.read_text())
    content["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"] = [24, 48]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="does not fit SFMANet: .*C % 16 == 0"):
        train(plans)
    assert not list(workspace.results.iterdir())


def test_results_folder_that_cannot_be_used_ends_in_one_sentence(workspace, plan, train, monkeypatch):
    plans = plan("training.num_epochs=1")
    monkeypatch.setenv("nnUNet_results", str(workspace.raw / workspace.plain / "dataset.json"))
    with pytest.raises(UserError, match="Cannot write to .*Not a directory"):
        train(plans)
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(UserError, match="nnUNet_results is not set"):
        train(plans)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="nnU-Net's mixed precision needs CUDA")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains(plan, workspace, precision):
    from nnunetv2.run.run_training import run_training

    plans = plan("training.num_epochs=1", f"training.precision={precision}")
    run_training("1", "2d", 0, TRAINER, plans, device=torch.device("cuda"))
    folder = workspace.results / workspace.plain / f"{TRAINER}__{plans}__2d" / "fold_0"
    assert np.isfinite(read_checkpoint(folder / "checkpoint_final.pth")["logging"]["train_losses"]).all()


@pytest.mark.parametrize(
    ("fold", "said"), [("all", "Fold all holds 6 test cases"), (5, "has no fold 5: train folds 0 to 4")]
)
def test_no_fold_trains_on_test_cases(workspace, plan, train, fold, said):
    """nnU-Net trains fold ``all``, and any fold that splits_final.json lacks, on everything that is preprocessed."""
    main(["splits", "-d", "1", "--scheme", "five-fold"])
    record = workspace.preprocessed / workspace.plain / "split_record.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"test": [f"case_{index}" for index in range(6)]}))
    with pytest.raises(UserError, match=said):
        train(plan("training.num_epochs=1"), fold)
