"""``nnunet-sfma status``: where every fold stands, from the files alone and from what this machine can ask."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunet_sfma.crossval import job_log
from nnunet_sfma.crossval.folds import Fold
from nnunet_sfma.crossval.lock import holder
from nnunet_sfma.crossval.models import Model, split_of
from nnunet_sfma.crossval.slurm_jobs import SlurmJob, cancel, live_jobs, read_submission
from nnunet_sfma.crossval.table import Row, row_of
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.fold_stage import Stage, fold_stage
from nnunet_sfma.nnunet_folders import dataset_name, nnunet_folder
from nnunet_sfma.trainers.checkpoints import FINAL

SECONDS_TO_STOP = 60
NOTES = (".lock", ".slurm.json")
ALL = "all"
INSTALLED = "installed"
ON_ALL_CASES = "trained on all cases"
UNREADABLE = "cannot be read"
QUEUED = {"PENDING": "queued", "RUNNING": "training", "COMPLETING": "ending"}


def known_models(
    dataset: int | str, trainer: str | None = None, plans: str | None = None, configuration: str | None = None
) -> list[Model]:
    """The models of a data set that have results, or that a cross-validation was started for.

    Args:
        dataset: id or name.
        trainer, plans, configuration: only those of them.

    Raises:
        UserError: if there are none, or their folder cannot be read.
    """
    name = dataset_name(dataset)
    folder = nnunet_folder("nnUNet_results") / name
    _refuse_unreadable(folder, folder / "crossval")
    identifiers = {path.name for path in folder.glob("*__*__*") if path.is_dir()}
    identifiers |= {path.name.removesuffix(end) for end in NOTES for path in folder.glob(f"crossval/*__*__*{end}")}
    models = [Model(name, *identifier.split("__")) for identifier in sorted(identifiers) if identifier.count("__") == 2]
    wanted = {"trainer": trainer, "plans": plans, "configuration": configuration}
    found = [model for model in models if all(value in (None, getattr(model, key)) for key, value in wanted.items())]
    if not found:
        raise UserError(f"There are no such models in {folder}: train one, or check -d, -tr, -p and -c.")
    return found


def status(models: Sequence[Model]) -> tuple[list[Row], list[str]]:
    """A row for every fold of the models, and a sentence on every file that is damaged or cannot be read."""
    notes: list[str] = []
    return [row for model in models for row in _rows(model, notes)], list(dict.fromkeys(notes))


def cancel_all(models: Sequence[Model]) -> list[str]:
    """End what ``nnunet-sfma crossval`` started for these models, and nothing else.

    What one call of crossval started for several models ends together.

    Returns:
        What was ended, a line each.

    Raises:
        UserError: if a driver runs on another machine, or does not end.
    """
    lines = []
    for model in models:
        by = holder(model)
        if by and "pid" in by:
            lines.append(_stop_driver(model, by))
        live = live_jobs(read_submission(model))
        cancel(live)
        lines += [f"Cancelled job {', '.join(live)}."] if live else []
    return lines or ["Nothing was running."]


def _rows(model: Model, notes: list[str]) -> list[Row]:
    by, submission, live = None, None, {}
    with _noting(notes):
        _refuse_unreadable(model.folder)
    with _noting(notes):
        by = holder(model)
    with _noting(notes):
        submission = read_submission(model)
        live = live_jobs(submission)
    rows, numbers = [], []
    with _noting(notes):
        numbers = _numbers(model, notes)
    for number in numbers:
        row = Row(model.trainer, model.plans, model.configuration, number, UNREADABLE)
        with _noting(notes):
            job = live.get(submission.folds.get(str(number), "")) if submission else None
            row = _row(Fold(model, number), by, job)
        rows.append(row)
    return rows


@contextlib.contextmanager
def _noting(notes: list[str]) -> Iterator[None]:
    """Go on without what cannot be read; somebody else's file should not hide all others."""
    try:
        yield
    except UserError as error:
        notes.append(str(error))
    except OSError as error:
        notes.append(f"{error.filename} cannot be read ({error.strerror}): make it readable.")


def _refuse_unreadable(*folders: Path) -> None:
    for folder in folders:
        try:
            os.listdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{folder} cannot be read ({error.strerror}): make it readable.") from None


def _numbers(model: Model, notes: list[str]) -> list[int | str]:
    """The folds that are there, and those of the split that are still to be trained."""
    names = model.fold_names
    numbers = {int(name) for name in names if name.isdecimal()}
    if not names or model.split_copy.is_file() or any(_has_log(Fold(model, number)) for number in numbers):
        with _noting(notes):
            numbers |= set(range(_number_of_folds(model)))
    return [*sorted(numbers), *([ALL] if ALL in names else [])]


def _number_of_folds(model: Model) -> int:
    """Of the split; 0 where it cannot be seen."""
    return len(split_of(model)) if model.is_preprocessed or model.split_copy.is_file() else 0


def _has_log(fold: Fold) -> bool:
    return any(fold.folder.glob("training_log_*.txt"))


def _stage(fold: Fold) -> Stage:
    try:
        if fold.number != ALL:
            return fold.stage
    except (UserError, OSError, IndexError):  # the cases cannot be seen, or the split has no such fold
        pass
    return fold_stage(fold.folder, [], "")  # the summary tells as much


def _row(fold: Fold, by: dict | None, job: SlurmJob | None) -> Row:
    stage = _stage(fold)
    if stage in (Stage.TRAINED, Stage.FINISHED) and _is_installed(fold):
        return row_of(fold, INSTALLED if fold.number != ALL else f"{INSTALLED}, {ON_ALL_CASES}")
    if fold.number == ALL:  # crossval never runs it
        return row_of(fold, ON_ALL_CASES if (fold.folder / FINAL).is_file() else stage.value)
    if stage == Stage.FINISHED:
        return row_of(fold, stage.value)
    if job:
        return row_of(fold, QUEUED.get(job.state, job.state.lower()), job.describe(), job.state == "RUNNING")
    if by is not None and job_log.runs_since(fold.log, by.get("since", "")):
        return row_of(fold, "training", by.get("host", "cluster"), is_running=True)
    code = job_log.exit_code(fold.log)
    if code and (not by or job_log.begun(fold.log) >= by["since"]):
        return row_of(fold, f"failed ({code})")
    return row_of(fold, "waiting" if by else stage.value)


def _is_installed(fold: Fold) -> bool:
    """Whether it came without its training log and its validation's predictions, as in nnU-Net's zip files."""
    validated = {path.name for path in (fold.folder / "validation").glob("*")}
    return not _has_log(fold) and validated <= {"summary.json"}


def _is_ours(pid: int) -> bool:
    """Whether the process is one of ours: the number of a driver that has just died may be another's."""
    try:
        running = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    except FileNotFoundError:
        return True
    return "nnunet" in running.stdout


def _stop_driver(model: Model, by: dict) -> str:
    if by["host"] != socket.gethostname():
        raise UserError(f"{model.identifier} is being trained on {by['host']}: cancel it there.")
    try:
        if _is_ours(by["pid"]):
            os.kill(by["pid"], signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise UserError(f"Process {by['pid']} is somebody else's: ask them to end it.") from None
    patience = time.monotonic() + SECONDS_TO_STOP
    while holder(model) and time.monotonic() < patience:
        time.sleep(0.2)
    if holder(model):
        raise UserError(f"Process {by['pid']} does not end: look at what it does, or kill it.")
    return f"Ended process {by['pid']}: {by['command']}"
