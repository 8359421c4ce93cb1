"""Locks on results: one driver alone, or the tasks of a cluster together, and each fold by one task alone.

They are the operating system's: they end with the last process that holds the file open, whatever ended it, so nothing
has to be tidied up after a crash. The supervisors of running commands hold them too, so that a lock is not free before
what a driver started has ended.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from nnunet_sfma.errors import UserError
from nnunet_sfma.locks import open_lock, sign, signature, take

SECONDS_FOR_THE_LAST_TO_LEAVE = 5
SECONDS_FOR_A_SUBMISSION = 600


class Workplace(Protocol):
    """Results that one driver alone may write to: those of a model, or a folder of predictions.

    Attributes:
        folder: of the results.
        notes: the folder for the lock and for what is noted down.
        identifier: what the names of these files begin with.
        advice: what to do, apart from waiting, about somebody else who works on it.
    """

    folder: Path
    notes: Path
    identifier: str
    advice: str


@contextlib.contextmanager
def locked(workplaces: Sequence[Workplace], command: str) -> Iterator[list[int]]:
    """Hold results alone.

    Args:
        command: what the user typed, for those who find the lock taken.

    Yields:
        File descriptors; processes that inherit them hold the locks too.

    Raises:
        UserError: if somebody else holds one of them, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open_lock(lock_file(workplace))) for workplace in workplaces]
        for workplace, file in zip(workplaces, files, strict=True):
            # supervisors of a driver that was killed need a moment to end what it had started
            if not take(file, fcntl.LOCK_EX, SECONDS_FOR_THE_LAST_TO_LEAVE):
                raise UserError(_sentence(workplace, signature(file)))
            stack.callback(file.truncate, 0)
            sign(file, command)
        yield [file.fileno() for file in files]


@contextlib.contextmanager
def locked_by_task(workplace: Workplace, log: Path) -> Iterator[list[int]]:
    """Hold results together with the other tasks of a cluster, and one of its jobs alone.

    The driver that submits may hold the results when the first task starts, and the node of an earlier run of the task
    may be known to be dead a little later.

    Args:
        log: of the job.

    Yields:
        File descriptors; processes that inherit them hold the locks too.

    Raises:
        UserError: if somebody else holds one of them, or it cannot be written.
    """
    with open_lock(lock_file(workplace)) as together, open_lock(log.with_suffix(".task")) as alone:
        if not take(together, fcntl.LOCK_SH, SECONDS_FOR_A_SUBMISSION):
            raise UserError(_sentence(workplace, signature(together)))
        if not take(alone, fcntl.LOCK_EX, SECONDS_FOR_A_SUBMISSION):
            raise UserError(f"Another task already writes {log}: look with squeue which one.")
        yield [together.fileno(), alone.fileno()]


def lock_file(workplace: Workplace) -> Path:
    """The file that is locked, and says who locked it."""
    return workplace.notes / f"{workplace.identifier}.lock"


def holder(workplace: Workplace) -> dict | None:
    """Who holds the results: ``host``, ``pid``, ``since``, ``command`` of a driver, nothing of tasks; None if free.

    Raises:
        UserError: if the lock is somebody else's and cannot be read.
    """
    path = lock_file(workplace)
    try:
        # a lock that may only be read can be looked at on most file systems
        with path.open("r+" if os.access(path, os.W_OK) else "r") as file:
            return None if take(file, fcntl.LOCK_EX, 0) else signature(file)
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable.") from None
    except OSError:  # there is none
        return None


def _sentence(workplace: Workplace, by: dict) -> str:
    who = f"process {by['pid']} on {by['host']} since {by['since']}" if "pid" in by else "tasks of a cluster"
    return f"The results in {workplace.folder} are being worked on by {who}: wait for it, {workplace.advice}."
