"""``nnunet-sfma status``: where every fold stands, from the files alone and from what this machine can ask."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence

from nnunet_sfma.crossval import job_log
from nnunet_sfma.crossval.folds import Fold
from nnunet_sfma.crossval.lock import holder
from nnunet_sfma.crossval.models import Model, split_of
from nnunet_sfma.crossval.slurm_jobs import SlurmJob, cancel, live_jobs, read_submission
from nnunet_sfma.crossval.table import Row, row_of
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.fold_stage import Stage, fold_stage
from nnunet_sfma.nnunet_folders import dataset_name, nnunet_folder

SECONDS_TO_STOP = 60
NOTES = (".lock", ".slurm.json")
QUEUED = {"PENDING": "queued", "RUNNING": "training", "COMPLETING": "ending"}


def known_models(
    dataset: int | str, trainer: str | None = None, plans: str | None = None, configuration: str | None = None
) -> list[Model]:
    """The models of a data set that have results, or that a cross-validation was started for.

    Args:
        dataset: id or name.
        trainer, plans, configuration: only those of them.

    Raises:
        UserError: if there are none.
    """
    name = dataset_name(dataset)
    folder = nnunet_folder("nnUNet_results") / name
    identifiers = {path.name for path in folder.glob("*__*__*") if path.is_dir()}
    identifiers |= {path.name.removesuffix(end) for end in NOTES for path in folder.glob(f"crossval/*__*__*{end}")}
    models = [Model(name, *identifier.split("__")) for identifier in sorted(identifiers) if identifier.count("__") == 2]
    wanted = {"trainer": trainer, "plans": plans, "configuration": configuration}
    found = [model for model in models if all(value in (None, getattr(model, key)) for key, value in wanted.items())]
    if not found:
        raise UserError(f"There are no such models in {folder}: train one, or check -d, -tr, -p and -c.")
    return found


def status(models: Sequence[Model]) -> list[Row]:
    """A row for every fold of the models."""
    return [row for model in models for row in _rows(model)]


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


def _rows(model: Model) -> list[Row]:
    by = holder(model)
    submission = read_submission(model)
    live = live_jobs(submission)
    rows = []
    for number in _numbers(model):
        fold = Fold(model, number)
        job = live.get(submission.folds.get(str(number), "")) if submission else None
        rows.append(_row(fold, by, job))
    return rows


def _numbers(model: Model) -> list[int]:
    """The folds of the split, or those that have a folder where the split cannot be seen."""
    try:
        return list(range(len(split_of(model))))
    except UserError:
        return sorted(int(name) for name in model.fold_names if name.isdecimal())


def _stage(fold: Fold) -> Stage:
    try:
        return fold.stage
    except UserError:  # the cases cannot be seen; the summary tells as much
        return fold_stage(fold.folder, [], "")


def _row(fold: Fold, by: dict | None, job: SlurmJob | None) -> Row:
    stage = _stage(fold)
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
