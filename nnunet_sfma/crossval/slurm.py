"""``nnunet-sfma crossval --executor slurm``: an array task per fold, and a job that waits for all of them."""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from nnunet_sfma.crossval.cross_validate import CrossValidation, finish, keep_notes
from nnunet_sfma.crossval.devices import Device
from nnunet_sfma.crossval.lock import locked, locked_by_task
from nnunet_sfma.crossval.runner import Job, run_jobs
from nnunet_sfma.crossval.slurm_jobs import Submission, cancel, note, refuse_submitted
from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import last_line

SECONDS_UNTIL_SLURM_KILLS = 600
RUNS_IN_VAIN = 5
TIMEOUTS = 10_000  # a training ends by its number of epochs, not by the number of its time limits
OUR_OWN = ("array", "dependency", "job-name", "output", "error", "open-mode", "signal")
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")


@dataclass(frozen=True)
class Request:
    """What the jobs ask SLURM for.

    Attributes:
        gpus: per fold, as ``--gpus-per-node`` takes it ("1", "a100:1"); None asks for none.
        cpus: per fold.
        memory: of a fold in gigabytes; None leaves it to the cluster.
        minutes: time limit of one run of a fold; one that needs longer is queued again and continues.
        partition, account: None leaves them to the cluster.
        others: any other options of sbatch, for all jobs.
    """

    gpus: str | None
    cpus: int | None
    memory: float | None
    minutes: int
    partition: str | None
    account: str | None
    others: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        """Refuse options that would take the jobs apart.

        Raises:
            UserError: if one of them is among the others.
        """
        taken = [key for key in self.others if key.replace("_", "-") in OUR_OWN]
        if taken:
            raise UserError(f"--slurm {taken[0]}: crossval and predict set it themselves; leave it out.")


@dataclass
class Task:
    """A job of ours inside a job of SLURM; submitit calls it, and calls ``checkpoint`` before SLURM ends it.

    Attributes:
        job: a fold, or a part of a prediction.
        runs_in_vain: how often running it was ended before the job had got on; an early preemption does that.
        stamp: the job's at the start of this run.
    """

    job: Job
    runs_in_vain: int = 0
    stamp: object = None

    def __call__(self) -> str:
        """Bring the job to its end.

        Raises:
            UserError: if it cannot be; the end of its log is printed.
        """
        self.stamp = self.job.stamp()
        with locked_by_task(self.job.workplace, self.job.log) as locks:
            failures = run_jobs([self.job], [Device("slurm")], lambda run: None, locks)
        for failure in failures:
            print(failure.describe(), flush=True)
            if failure.signal == "SIGTERM":
                # SLURM announces the end of a job so, and then requeues it or not; leaving early would be a failure
                time.sleep(SECONDS_UNTIL_SLURM_KILLS)
            raise UserError(f"{failure.job.title} {failure.reason}.")
        return self.job.title

    def checkpoint(self):
        """Queue the task again, unless it did not get on a few times running: its time limit would never suffice."""
        from submitit.helpers import DelayedSubmission

        runs_in_vain = self.runs_in_vain + 1 if self.job.stamp() == self.stamp else 0
        return DelayedSubmission(Task(self.job, runs_in_vain)) if runs_in_vain <= RUNS_IN_VAIN else None


@dataclass
class Finish:
    """The job that brings the folds together when all of them have ended."""

    validation: CrossValidation
    runs: int = 1

    def __call__(self) -> str:
        with contextlib.ExitStack() as stack:
            for model in self.validation.models:
                stack.enter_context(locked_by_task(model, self.validation.accumulation(model).log))
            return str(finish(self.validation))

    def checkpoint(self):
        """Queue it again, a few times; it does only what is not there."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Finish(self.validation, self.runs + 1)) if self.runs <= RUNS_IN_VAIN else None


def submit(validation: CrossValidation, request: Request, typed: str) -> list[str]:
    """Submit the folds that are not finished as one array, and the job that waits for them.

    Returns:
        What was submitted, a line each.

    Raises:
        UserError: if submitit or SLURM is not there, SLURM refuses, or work on these results is under way.
    """
    check_slurm()
    folder = validation.models[0].notes
    name = f"nnunet-sfma-{validation.models[0].dataset_id}"
    with locked(validation.models, typed):
        refuse_submitted(validation.models)
        keep_notes(validation)
        folds = validation.unfinished()
        with cancelled_on_failure() as submitted:
            tasks = submit_array(folder / "slurm", name, [Task(fold) for fold in folds], request)
            submitted += tasks
            last = submit_after(folder / "slurm", name, Finish(validation), tasks, request)
            submitted.append(last)
            for model in validation.models:
                ids = {str(fold.number): id for fold, id in zip(folds, tasks, strict=True) if fold.model == model}
                note(model, Submission.of(name, typed, ids, last))
    lines = [f"{fold.title}: job {id}" for fold, id in zip(folds, tasks, strict=True)]
    return [*lines, f"results and report: job {last}, after all of them", f"Logs: {folder / 'slurm'}"]


@contextlib.contextmanager
def cancelled_on_failure() -> Iterator[list[str]]:
    """Leave no jobs in the queue that nobody would know of.

    Yields:
        A list for the ids of what was submitted.
    """
    submitted = []
    try:
        yield submitted
    except BaseException:
        with contextlib.suppress(UserError):  # the first error is the one to tell
            cancel(submitted)
        raise


def submit_array(folder: Path, name: str, tasks: Sequence[Task], request: Request) -> list[str]:
    """Submit tasks as one array.

    Returns:
        Their ids, as ``squeue --array`` prints them.

    Raises:
        UserError: if submitit or SLURM is not there, or SLURM refuses.
    """
    if not tasks:
        return []
    executor = _executor(folder, name, request)
    asked = {"gpus_per_node": request.gpus, "cpus_per_task": request.cpus, "time": request.minutes}
    executor.update_parameters(**{key: value for key, value in asked.items() if value is not None})
    with _as_user_error():
        return _submit_all(executor, tasks)


def submit_after(folder: Path, name: str, function, jobs: Sequence[str], request: Request) -> str:
    """Submit a job that waits until these have ended, however they end.

    Returns:
        Its id.

    Raises:
        UserError: if submitit or SLURM is not there, or SLURM refuses.
    """
    executor = _executor(folder, name, request)
    executor.update_parameters(time=request.minutes, cpus_per_task=request.cpus or 1)
    if jobs:
        executor.update_parameters(dependency="afterany:" + ":".join(dict.fromkeys(id.split("_")[0] for id in jobs)))
    with _as_user_error():
        return executor.submit(function).job_id


def read_minutes(text: str) -> int:
    """A time limit as sbatch takes it, in minutes: "90", "36:00:00", "2-12" or "1-12:30".

    Raises:
        UserError: if it is none.
    """
    match = TIME.fullmatch(text)
    if not match:
        raise UserError(f"--time {text} is no time limit: give minutes, hours:minutes:seconds or days-hours.")
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = (parts + [0, 0])[:3]
    else:
        hours, minutes, seconds = {1: [0, *parts, 0], 2: [0, *parts], 3: parts}[len(parts)]
    return int(match["days"] or 0) * 24 * 60 + hours * 60 + minutes + (seconds > 0)


def check_slurm() -> None:
    """Make sure that jobs can be submitted from here.

    Raises:
        UserError: if submitit or SLURM is not there.
    """
    if find_spec("submitit") is None:
        raise UserError("SLURM needs the package submitit: pip install 'nnunet-sfma[slurm]'.")
    if not shutil.which("srun") or not shutil.which("sbatch"):
        raise UserError("There is no srun and sbatch here: submit from a machine of the cluster.")


def _executor(folder: Path, name: str, request: Request):
    check_slurm()
    import submitit

    executor = submitit.SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
    memory = None if request.memory is None else f"{round(request.memory * 1024)}MB"
    asked = {"partition": request.partition, "account": request.account, "mem": memory}
    executor.update_parameters(
        job_name=name,
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, **request.others},
        **{key: value for key, value in asked.items() if value is not None},
    )
    return executor


def _submit_all(executor, tasks: Sequence[Task]) -> list[str]:
    with executor.batch():
        jobs = [executor.submit(task) for task in tasks]
    return [job.job_id for job in jobs]


@contextlib.contextmanager
def _as_user_error() -> Iterator[None]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        yield
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"SLURM refused the jobs ({last_line(error)}): check the options.") from None
    except OSError as error:
        raise UserError(f"Could not submit ({error}): make room, or submit from a machine with sbatch.") from None
