"""Jobs in processes of their own, one per device at a time; one that fails does not stop the others."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nnunet_sfma.crossval import job_log, supervise
from nnunet_sfma.crossval.devices import Device
from nnunet_sfma.errors import UserError
from nnunet_sfma.interruptions import undisturbed

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 10
SECONDS_OF_STANDSTILL = 180
ON_PURPOSE = ("SIGINT", "SIGTERM", "SIGHUP")


class Job(Protocol):
    """What can be run, continued and recognised as finished.

    Attributes:
        title: for people.
        log: the file that the output of its commands is appended to.
        workplace: the results that it writes to; only asked for on a cluster.
    """

    title: str
    log: Path

    def prepare(self) -> None:
        """Called before :meth:`next_command` when the job is about to be run: removes what would mislead it."""

    def next_command(self) -> list[str] | None:
        """The command that brings the job on from what lies on the disk; None if there is nothing left to do."""

    def stamp(self) -> object:
        """Something that differs when the job got on since the last call."""


@dataclass(frozen=True)
class Failure:
    """A job that did not finish.

    Attributes:
        job: which one.
        reason: why, as the end of a sentence.
        signal: the name of the signal that ended it, if one did.
    """

    job: Job
    reason: str
    signal: str | None = None

    def describe(self) -> str:
        """The job, the reason and the last lines of its log."""
        return "\n".join([f"{self.job.title}: {self.reason}. The end of {self.job.log}:", *self.last_lines])

    @property
    def last_lines(self) -> list[str]:
        return [f"    {line}" for line in job_log.tail(self.job.log)]


@dataclass
class JobProcess:
    """A job's running command, and the job's stamp before it was started."""

    job: Job
    command: Sequence[str]
    process: subprocess.Popen
    stamp: object

    @classmethod
    def start(cls, job: Job, command: Sequence[str], device: Device, keep_open: Sequence[int]) -> "JobProcess":
        """Start a command of the job on a device.

        Args:
            keep_open: file descriptors of locks that are to be held until the command has ended.
        """
        stamp = job.stamp()
        with job_log.begin(job.log, command, device.environment) as log:
            process = subprocess.Popen(
                [sys.executable, supervise.__file__, str(os.getpid()), str(SECONDS_OF_STANDSTILL), *program(command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **device.environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                pass_fds=keep_open,
            )
        return cls(job, command, process, stamp)

    def stop(self) -> None:
        """End the command and its workers."""
        self.process.terminate()
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Run:
    """The state of all jobs, for who shows it.

    Attributes:
        waiting: not started yet, or to be continued.
        running: by the device they run on.
        failures: of those that ended without finishing.
        tried_again: titles of those that lost a worker process before they got on, which may be chance, once.
    """

    waiting: deque[Job]
    running: dict[Device, JobProcess] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    tried_again: set[str] = field(default_factory=set)


def run_jobs(
    jobs: Iterable[Job], devices: Sequence[Device], show: Callable[[Run], None], keep_open: Sequence[int] = ()
) -> list[Failure]:
    """Run all jobs to their end, one per device at a time.

    A job that was killed or lost a worker process, for lack of memory for instance, is continued, as long as it got on
    before; one that lost a worker, once even if it did not. An exception, such as Ctrl-C, ends all commands first.

    Args:
        jobs: in the order in which they are started.
        devices: at least one.
        show: called at every look, a few times a second.
        keep_open: file descriptors of locks that have to be held as long as a command runs.

    Returns:
        The jobs that ended without finishing.
    """
    run = Run(deque(jobs))
    try:
        while run.waiting or run.running:
            for device in devices:
                if device not in run.running:
                    _start_next(run, device, keep_open)
            show(run)
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for device, started in list(run.running.items()):
                if started.process.poll() is not None:
                    del run.running[device]
                    _judge(run, started)
        show(run)
    finally:
        with undisturbed():
            for started in run.running.values():
                started.stop()
    return run.failures


def program(command: Sequence[str]) -> list[str]:
    """The command with the full path of its program, from the environment that this Python belongs to."""
    if command[0] == "python":
        return [sys.executable, *command[1:]]
    beside = Path(sys.executable).parent / command[0]
    return [str(beside) if beside.is_file() else command[0], *command[1:]]


def _start_next(run: Run, device: Device, keep_open: Sequence[int]) -> None:
    while run.waiting:
        job = run.waiting.popleft()
        try:
            job.prepare()
            command = job.next_command()
            if command:
                run.running[device] = JobProcess.start(job, command, device, keep_open)
                return
        except (UserError, Exception) as error:  # whatever is wrong with this one, the others go on
            run.failures.append(Failure(job, f"could not be started ({error})"))


def _judge(run: Run, ended: JobProcess) -> None:
    """Sort a job whose command ended: it has failed, or it goes on; a finished one is noticed at its next start."""
    name = _signal(ended.process.returncode)
    try:
        reason = _why_not_continued(run, ended, name)
    except (UserError, Exception) as error:  # whatever is wrong with this one, the others go on
        reason = f"could not be continued ({error})"
    if reason:
        run.failures.append(Failure(ended.job, reason, name))
    else:
        run.waiting.appendleft(ended.job)


def _why_not_continued(run: Run, ended: JobProcess, name: str | None) -> str | None:
    code, job = ended.process.returncode, ended.job
    if code == 0:
        return "the command ended well, but left results out" if job.next_command() == ended.command else None
    lost_worker = job_log.tells_of_lost_worker(job.log)
    if name in ON_PURPOSE:
        return f"ended by {name}"
    if name is None and not lost_worker:
        return f"ended with exit code {code}"
    end = "lost a worker process" if lost_worker else f"killed by {name}"
    if job.stamp() != ended.stamp:
        run.tried_again.discard(job.title)
    elif lost_worker and job.title not in run.tried_again:
        run.tried_again.add(job.title)
    else:
        return f"{end} before it got on"
    print(f"{job.title}: {end}; it is continued.", flush=True)
    return None


def _signal(code: int) -> str | None:
    """The signal that ended the command, or its supervisor."""
    try:
        return signal.Signals(-code if code < 0 else code - 128).name
    except ValueError:
        return None
