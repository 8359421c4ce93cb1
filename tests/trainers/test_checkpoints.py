"""Checkpoints that are killed while written, lie in the middle of an epoch, or are damaged."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_sfma.errors import UserError
from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe
from tests.trainers.conftest import TRAINER, read_checkpoint
from tests.trainers.test_faults import start_training

LATEST, PREVIOUS, BEST, FINAL = (f"checkpoint_{name}.pth" for name in ("latest", "previous", "best", "final"))
EPOCHS, STEPS = 2, 4
LENGTH = (f"training.num_epochs={EPOCHS}", f"training.iterations_per_epoch={STEPS}", "training.lr_schedule=poly")
KILLED_AFTER_SIX_STEPS = """
import os, signal, sys
sys.path.append(sys.argv.pop(1))
from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe
from nnunetv2.run.run_training import run_training_entry
from tests.trainers.test_checkpoints import after_each_step
losses = []
def watch(output):
    losses.append(output["loss"])
    print("loss", float(output["loss"]), flush=True)
    if len(losses) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
after_each_step(watch)
nnUNetTrainerRecipe.seconds_between_checkpoints = 0.0
run_training_entry()
"""


class StoppedError(Exception):
    """The end of a run."""


def after_each_step(watch: Callable[[dict], None]) -> None:
    step = nnUNetTrainerRecipe.train_step

    def watched(trainer, batch):
        output = step(trainer, batch)
        watch(output)
        return output

    nnUNetTrainerRecipe.train_step = watched


@pytest.fixture
def watch_steps(monkeypatch):
    """``watch_steps(stop_after=None)``: the list to which the training in this process adds each step's output."""
    step = nnUNetTrainerRecipe.train_step

    def start(stop_after: int | None = None) -> list[dict]:
        outputs = []

        def watch(output: dict) -> None:
            outputs.append(output)
            if len(outputs) == stop_after:
                raise StoppedError

        monkeypatch.setattr(nnUNetTrainerRecipe, "train_step", step)
        after_each_step(watch)
        return outputs

    return start


@pytest.fixture
def stopped(workspace, plan, train_only, watch_steps, monkeypatch) -> Callable[..., Path]:
    """``stopped(after)``: the folder of a training that wrote a checkpoint after every step and then stopped."""

    def run(after: int) -> Path:
        plans = plan(*LENGTH)
        with monkeypatch.context() as patch:
            patch.setattr(nnUNetTrainerRecipe, "seconds_between_checkpoints", 0.0)
            watch_steps(stop_after=after)
            with pytest.raises(StoppedError):
                train_only(plans)
        watch_steps()
        return fold_folder(workspace)

    return run


def fold_folder(workspace, plans: str = "tiny") -> Path:
    return workspace.results / workspace.plain / f"{TRAINER}__{plans}__2d" / "fold_0"


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip_a_bit_of_the_weights(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    # a new file: the old one may have a second name
    path.unlink()
    path.write_bytes(content)


def another_file(path: Path) -> None:
    torch.save([1, 2], path)


def file_names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.startswith("training_log")}


def resume_and_check(train_only, folder: Path, capsys, watch_steps, losses: list[float]) -> None:
    """Continue and compare: no step is missing or done twice, and the interrupted epoch is logged as one."""
    kept = read_checkpoint(folder / LATEST)
    epoch, done = divmod(len(losses), STEPS)
    if done == 0:
        epoch, done = epoch - 1, STEPS
    assert kept["current_epoch"] == kept["unfinished_epoch"]["epoch"] == epoch
    assert len(kept["unfinished_epoch"]["outputs"]) == done
    assert {len(values) for values in kept["logging"].values()} == {epoch}
    outputs = watch_steps()
    capsys.readouterr()
    train_only("tiny", continue_training=True)
    assert "logging issue" not in capsys.readouterr().out
    final = read_checkpoint(folder / FINAL)
    log = final["logging"]
    assert len(losses) + len(outputs) == EPOCHS * STEPS
    assert {len(values) for values in log.values()} == {EPOCHS} and final["current_epoch"] == EPOCHS
    all_losses = [*losses, *(float(output["loss"]) for output in outputs)]
    assert np.allclose(log["train_losses"], np.reshape(all_losses, (EPOCHS, STEPS)).mean(1), rtol=1e-5)
    of_epoch = [*kept["unfinished_epoch"]["outputs"], *outputs[: STEPS - done]]
    tp, fp, fn = (np.sum([output[key] for output in of_epoch], 0) for key in ("tp_hard", "fp_hard", "fn_hard"))
    assert log["train_dice"][epoch] == pytest.approx(float(np.nanmean(2 * tp / (2 * tp + fp + fn))))
    assert np.allclose(log["lrs"], [1e-3 * (1 - epoch / EPOCHS) ** 0.9 for epoch in range(EPOCHS)])
    seconds = log["epoch_end_timestamps"][epoch] - log["epoch_start_timestamps"][epoch]
    assert seconds > kept["unfinished_epoch"]["seconds"] > 0


def test_killed_within_an_epoch(workspace, plan, train_only, capsys, watch_steps):
    plans = plan(*LENGTH)
    command = [sys.executable, "-c", KILLED_AFTER_SIX_STEPS, str(Path(__file__).parents[2])]
    options = ["1", "2d", "0", "-tr", TRAINER, "-p", plans, "-device", "cpu"]
    ended = subprocess.run([*command, *options], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    losses = [float(line.split()[1]) for line in ended.stdout.splitlines() if line.startswith("loss ")]
    folder = fold_folder(workspace)
    assert read_checkpoint(folder / PREVIOUS)["unfinished_epoch"]["outputs"][0]["loss"] == pytest.approx(losses[4])
    for name in (LATEST, PREVIOUS, BEST):
        (folder / f"{name}.partial").write_bytes(b"half")
    resume_and_check(train_only, folder, capsys, watch_steps, losses)
    train_only(plan(*LENGTH, name="undisturbed"))
    assert file_names(folder) == file_names(fold_folder(workspace, "undisturbed"))


@pytest.mark.parametrize("after", [1, STEPS, 2 * STEPS], ids=["first", "last of the first epoch", "last of all"])
def test_stopped_within_an_epoch(stopped, train_only, capsys, watch_steps, after):
    folder = stopped(after)
    kept = read_checkpoint(folder / LATEST)
    losses = [float(output["loss"]) for output in kept["unfinished_epoch"]["outputs"]]
    losses = [*np.repeat(kept["logging"]["train_losses"], STEPS).tolist(), *losses]
    assert (folder / BEST).exists() == (after > STEPS)
    resume_and_check(train_only, folder, capsys, watch_steps, losses)
    final = read_checkpoint(folder / FINAL)
    assert kept.keys() == final.keys() | {"unfinished_epoch"}
    assert kept["network_weights"].keys() == final["network_weights"].keys()


def test_epochs_shorter_than_the_interval_have_no_checkpoint_within(workspace, plan, train_only, watch_steps):
    watch_steps(stop_after=STEPS + 2)
    with pytest.raises(StoppedError):
        train_only(plan(*LENGTH))
    left = read_checkpoint(fold_folder(workspace) / LATEST)
    assert left["current_epoch"] == 1 and "unfinished_epoch" not in left


def test_nothing_is_written_without_checkpointing(workspace, plan, train, watch_steps, monkeypatch):
    monkeypatch.setattr(nnUNetTrainerRecipe, "seconds_between_checkpoints", 0.0)
    watch_steps(stop_after=2)
    with pytest.raises(StoppedError):
        train(plan(*LENGTH), disable_checkpointing=True)
    assert not list(workspace.results.rglob("*.pth*"))


def test_killed_twenty_times_while_writing(stopped, train_only):
    """Each process does nothing but write the latest checkpoint until it is killed."""
    from nnunetv2.run.run_training import get_trainer_from_args

    folder = stopped(STEPS + 1)
    trainer = get_trainer_from_args("1", "2d", 0, TRAINER, "tiny", True, torch.device("cpu"))
    trainer.load_checkpoint(str(folder / LATEST))
    trainer.current_epoch = 0
    context, rng, weights = multiprocessing.get_context("fork"), random.Random(1), trainer.network.state_dict()

    def write_until_killed(begun) -> None:
        while True:
            trainer.save_checkpoint(str(folder / LATEST))
            begun.set()

    for _ in range(20):
        begun = context.Event()
        process = context.Process(target=write_until_killed, args=(begun,), daemon=True)
        process.start()
        assert begun.wait(60)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.join()
        for name in (LATEST, PREVIOUS):
            saved = read_checkpoint(folder / name)
            assert saved["current_epoch"] == 1
            assert all(torch.equal(saved["network_weights"][key], value) for key, value in weights.items())
    train_only("tiny", continue_training=True)
    assert {len(values) for values in read_checkpoint(folder / FINAL)["logging"].values()} == {EPOCHS}
    assert sorted(path.name for path in folder.glob("checkpoint_*")) == [BEST, FINAL]


def test_damaged_latest_falls_back_to_the_one_before(stopped, train_only, capsys, watch_steps):
    folder = stopped(STEPS + 3)
    whole, previous = ((folder / name).read_bytes() for name in (LATEST, PREVIOUS))
    for damage in (cut, empty, flip_a_bit_of_the_weights, another_file):
        (folder / LATEST).write_bytes(whole)
        damage(folder / LATEST)
        capsys.readouterr()
        outputs = watch_steps(stop_after=1)
        with pytest.raises(StoppedError):
            train_only("tiny", continue_training=True)
        said = [line for line in capsys.readouterr().out.splitlines() if "cannot be read" in line]
        assert len(said) == len(outputs) == 1
        assert f"{folder / LATEST} cannot be read (" in said[0]
        assert said[0].rstrip().endswith(f"continuing instead from {PREVIOUS}, epoch 1.")
        assert said[0] in "".join(path.read_text() for path in folder.glob("training_log_*.txt"))
        assert (folder / PREVIOUS).read_bytes() == previous
    outputs = watch_steps()
    train_only("tiny", continue_training=True)
    assert len(outputs) == EPOCHS * STEPS - (STEPS + 2)


def test_damaged_latest_never_takes_the_place_of_the_one_before(stopped, train_only, watch_steps, monkeypatch):
    folder = stopped(STEPS + 3)
    empty(folder / LATEST)
    previous = (folder / PREVIOUS).read_bytes()
    monkeypatch.setattr(nnUNetTrainerRecipe, "seconds_between_checkpoints", 0.0)
    watch_steps(stop_after=1)
    with pytest.raises(StoppedError):
        train_only("tiny", continue_training=True)
    assert (folder / PREVIOUS).read_bytes() == previous
    assert len(read_checkpoint(folder / LATEST)["unfinished_epoch"]["outputs"]) == 3


def test_damaged_latest_and_previous_fall_back_to_the_best_and_then_to_nothing(stopped, train_only, capsys):
    folder = stopped(STEPS + 2)
    for name in (LATEST, PREVIOUS):
        cut(folder / name)
    best = (folder / BEST).read_bytes()
    cut(folder / BEST)
    process = start_training("tiny", "--c")
    output = process.communicate()[0]
    assert process.returncode == 1 and "Traceback" not in output
    last = output.rstrip().splitlines()[-1]
    assert last.startswith(f"Cannot read {LATEST} (") and last.endswith("train the fold again without --c.")
    (folder / BEST).write_bytes(best)
    train_only("tiny", continue_training=True)
    assert f"continuing instead from {BEST}, epoch 1." in capsys.readouterr().out
    assert {len(values) for values in read_checkpoint(folder / FINAL)["logging"].values()} == {EPOCHS}


def test_damaged_final_is_never_replaced_by_another(plan, train_only, train):
    folder = train_only(plan("training.num_epochs=1"))
    flip_a_bit_of_the_weights(folder / FINAL)
    shutil.copy(folder / BEST, folder / PREVIOUS)
    for how in ("only_run_validation", "continue_training"):
        with pytest.raises(UserError, match=rf"Cannot read {FINAL} \(wrong checksum.* remove it and continue with --c"):
            train("tiny", **{how: True})
    for path in (folder / BEST, folder / PREVIOUS):
        path.unlink()
    with pytest.raises(UserError, match="train the fold again without --c"):
        train("tiny", only_run_validation=True)
    assert not (folder / "validation").exists()


def test_whole_checkpoint_of_another_network_does_not_fall_back(stopped, train_only):
    folder = stopped(STEPS + 2)
    left = read_checkpoint(folder / LATEST)
    left["network_weights"].popitem()
    torch.save(left, folder / LATEST)
    with pytest.raises(RuntimeError, match="Missing key"):
        train_only("tiny", continue_training=True)


def test_file_system_without_hard_links(stopped, train_only, monkeypatch):
    def refuse(*_) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = stopped(STEPS + 2)
    assert [len(read_checkpoint(folder / name)["unfinished_epoch"]["outputs"]) for name in (PREVIOUS, LATEST)] == [1, 2]
    assert not list(folder.glob("*.partial"))
    train_only("tiny", continue_training=True)
    assert sorted(path.name for path in folder.glob("checkpoint_*")) == [BEST, FINAL]


@pytest.mark.parametrize("continues", [False, True])
def test_training_voids_an_earlier_validation(stopped, train_only, watch_steps, continues):
    folder = stopped(STEPS + 2)
    summary = folder / "validation" / "summary.json"
    summary.parent.mkdir()
    summary.write_text("{}")
    watch_steps(stop_after=1)
    with pytest.raises(StoppedError):
        train_only("tiny", continue_training=continues)
    assert not summary.exists()
    # a new training never falls back to what an earlier one left
    assert (folder / PREVIOUS).exists() == continues


def test_new_training_does_not_keep_the_checkpoint_of_an_earlier_one(stopped, train_only, watch_steps):
    folder = stopped(1)
    watch_steps(stop_after=STEPS + 1)
    with pytest.raises(StoppedError):
        train_only("tiny")
    assert read_checkpoint(folder / LATEST)["current_epoch"] == 1
    assert not (folder / PREVIOUS).exists()


def test_training_anew_over_a_finished_one(plan, train_only, monkeypatch):
    """Interrupted, the fold is not taken for the finished one of before; finished, nothing of that is left."""
    plans = plan("training.num_epochs=2")
    folder = train_only(plans)
    first = (folder / "checkpoint_final.pth").read_bytes()

    def interrupt(trainer):
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(nnUNetTrainerRecipe, "on_train_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_only(plans)
    assert not (folder / "checkpoint_final.pth").exists()
    assert (folder / "checkpoint_replaced.pth").read_bytes() == first
    train_only(plans, continue_training=True)
    assert (folder / "checkpoint_final.pth").read_bytes() != first
    assert not (folder / "checkpoint_replaced.pth").exists()
