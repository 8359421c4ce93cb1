"""A training whose augmentation worker is killed, as by the out-of-memory killer, goes on from its checkpoint."""

import psutil
import pytest

from nnunet_sfma.crossval.devices import Device
from nnunet_sfma.crossval.folds import Fold
from nnunet_sfma.crossval.models import find_models
from nnunet_sfma.crossval.runner import Run, run_jobs
from tests.crossval.conftest import started_commands
from tests.trainers.conftest import TRAINER, read_checkpoint


@pytest.mark.slow
def test_killed_augmentation_worker_is_continued(two_folds, plan, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    plan("training.num_epochs=4", name="longer")
    (model,) = find_models(1, [TRAINER], ["longer"], "2d")
    fold, killed = Fold(model, 0, "cpu"), []

    def kill_a_worker(run: Run) -> None:
        if (fold.folder / "checkpoint_latest.pth").is_file() and not killed:
            ((_, started),) = run.running.items()
            (command,) = [
                process
                for process in psutil.Process(started.process.pid).children()
                if "supervise.py" not in " ".join(process.cmdline())
            ]
            worker = next(child for child in command.children() if "resource_tracker" not in " ".join(child.cmdline()))
            worker.kill()
            killed.append(worker.pid)

    assert run_jobs([fold], [Device("cpu")], kill_a_worker) == []
    assert killed
    first, *others = started_commands(two_folds, 0, "longer")
    assert others == [f"{first} --c"]
    assert f"{fold.title}: lost a worker process; it is continued." in capsys.readouterr().out
    log = read_checkpoint(fold.folder / "checkpoint_final.pth")["logging"]
    assert len(log["train_losses"]) == 4
    assert (fold.folder / "validation" / "summary.json").is_file()
