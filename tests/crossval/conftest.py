"""Two folds of six tiny cases, and drivers in processes of their own that can be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Workspace
from tests.trainers.conftest import TRAINER, plan  # noqa: F401

CLI = [sys.executable, "-m", "nnunet_sfma.cli"]
CROSSVAL = ["crossval", "-d", "1", "-tr", TRAINER, "-p", "tiny", "-np", "1", "-device", "cpu"]


@pytest.fixture
def two_folds(workspace: Workspace, plan: Callable[..., str]) -> Workspace:  # noqa: F811
    """The workspace with plans "tiny" of three short epochs, and a split of two folds."""
    plan("training.num_epochs=3")
    write_folds(workspace)
    return workspace


def write_folds(workspace: Workspace) -> None:
    cases = [f"case_{number}" for number in range(6)]
    folds = [{"train": cases[2:], "val": cases[:2]}, {"train": cases[:3], "val": cases[3:]}]
    (workspace.preprocessed / workspace.plain / "splits_final.json").write_text(json.dumps(folds))


@pytest.fixture
def start(two_folds: Workspace, tmp_path: Path):
    """``start(*arguments)``: nnunet-sfma in a process of its own, printing to a pipe; ended with the test."""
    started = []

    def run(*arguments: str, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [*CLI, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def model_folder(workspace: Workspace, plans: str = "tiny") -> Path:
    return workspace.results / workspace.plain / f"{TRAINER}__{plans}__2d"


def take_the_place_of_the_validation(workspace: Workspace) -> None:
    """Let fold 0 fail, and no other: a file lies where the folder of its validation belongs."""
    folder = model_folder(workspace) / "fold_0"
    folder.mkdir(parents=True)
    (folder / "validation").touch()


def fold_log(workspace: Workspace, fold: int, plans: str = "tiny") -> Path:
    return workspace.results / workspace.plain / "crossval" / f"{TRAINER}__{plans}__2d_fold_{fold}.log"


def wait_for(condition: Callable[[], object], seconds: float = 120) -> object:
    """The first value that counts as true; fails when there is none in time."""
    patience = time.monotonic() + seconds
    while time.monotonic() < patience:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail("it did not happen in time")


def has_line(path: Path, text: str) -> bool:
    return path.is_file() and text in path.read_text()


def files_of(workspace: Workspace) -> set[str]:
    """All results but the logs, whose names tell when something was started, and what depends on the scores.

    nnU-Net leaves plans and dataset.json beside post-processed files only if no post-processing improved them.
    """
    files = (path.relative_to(workspace.results) for path in workspace.results.rglob("*") if path.is_file())
    return {
        str(path)
        for path in files
        if not path.name.startswith("training_log_") and (path.parent.name, path.suffix) != ("postprocessed", ".json")
    }


def started_commands(workspace: Workspace, fold: int, plans: str = "tiny") -> list[str]:
    """The commands that were run for a fold."""
    lines = fold_log(workspace, fold, plans).read_text().splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
