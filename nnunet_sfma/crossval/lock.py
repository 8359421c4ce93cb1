"""Locks on results: one driver alone, or the tasks of a cluster together, and each fold by one task alone.

They are the operating system's: they end with the last process that holds the file open, whatever ended it, so nothing
has to be tidied up after a crash. The supervisors of running commands hold them too, so that a lock is not free before
what a driver started has ended.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import parse_json

SECONDS_FOR_THE_LAST_TO_LEAVE = 5
SECONDS_FOR_A_SUBMISSION = 600
SIGNATURE = {
    "type": "object",
    "required": ["host", "pid", "since", "command"],
    "properties": {
        "host": {"type": "string"},
        "pid": {"type": "integer", "minimum": 2, "maximum": 2**31 - 1},
        "since": {"type": "string"},
        "command": {"type": "string"},
    },
}
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


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
        files = [stack.enter_context(_open(lock_file(workplace))) for workplace in workplaces]
        for workplace, file in zip(workplaces, files, strict=True):
            # supervisors of a driver that was killed need a moment to end what it had started
            if not _take(file, fcntl.LOCK_EX, SECONDS_FOR_THE_LAST_TO_LEAVE):
                raise UserError(_sentence(workplace, _read(file)))
            stack.callback(file.truncate, 0)
            _sign(file, command)
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
    with _open(lock_file(workplace)) as together, _open(log.with_suffix(".task")) as alone:
        if not _take(together, fcntl.LOCK_SH, SECONDS_FOR_A_SUBMISSION):
            raise UserError(_sentence(workplace, _read(together)))
        if not _take(alone, fcntl.LOCK_EX, SECONDS_FOR_A_SUBMISSION):
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
            return None if _take(file, fcntl.LOCK_EX, 0) else _read(file)
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable.") from None
    except OSError:  # there is none
        return None


def _open(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise UserError(f"Could not write {path} ({error.strerror}): make room or make it writable.") from error


def _take(file: IO[str], kind: int, patience: float) -> bool:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.2)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise UserError(f"Could not lock {file.name} ({error.strerror}): look at the file system.") from error
            print(f"Note: {file.name} cannot be locked on this file system: do not start a second driver.")
            return True


def _sentence(workplace: Workplace, by: dict) -> str:
    who = f"process {by['pid']} on {by['host']} since {by['since']}" if "pid" in by else "tasks of a cluster"
    return f"The results in {workplace.folder} are being worked on by {who}: wait for it, {workplace.advice}."


def _sign(file: IO[str], command: str) -> None:
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    file.truncate(0)
    file.write(json.dumps({**about, "command": command}))
    file.flush()


def _read(file: IO[str]) -> dict:
    """What a driver signed with; nothing if tasks hold the lock or the signature is damaged."""
    file.seek(0)
    with contextlib.suppress(UserError, ValueError):
        return parse_json(file.read(), SIGNATURE, source=file.name)
    return {}
