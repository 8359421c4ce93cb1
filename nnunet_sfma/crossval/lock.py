"""Locks on results: one driver alone, or the tasks of a cluster together.

They are the operating system's: they end with the last process that holds the file open, whatever ended it, so nothing
has to be tidied up after a crash. The supervisors of running commands hold them too, so a lock is free only when
nothing that a driver started writes to the results any more.
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

SECONDS_FOR_THE_LAST_TO_LEAVE = 5
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
def locked(workplaces: Sequence[Workplace], command: str, shared: bool = False) -> Iterator[list[int]]:
    """Hold results.

    Args:
        command: what the user typed, for those who find the lock taken.
        shared: for tasks of a cluster, which hold it together.

    Yields:
        File descriptors; processes that inherit them hold the locks too.

    Raises:
        UserError: if somebody else holds one of them, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_open(lock_file(workplace))) for workplace in workplaces]
        for workplace, file in zip(workplaces, files, strict=True):
            _take(workplace, file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            _sign(file, "" if shared else command)
        yield [file.fileno() for file in files]


def lock_file(workplace: Workplace) -> Path:
    """The file that is locked, and says who locked it."""
    return workplace.notes / f"{workplace.identifier}.lock"


def holder(workplace: Workplace) -> dict | None:
    """Who holds the results: ``host``, ``pid``, ``since``, ``command``; None if nobody does."""
    path = lock_file(workplace)
    if not path.is_file():
        return None
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(file)
        except OSError:  # no locks on this file system
            return None
    return None


def _open(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise UserError(f"Could not write {path} ({error.strerror}): make room or make it writable.") from error


def _take(workplace: Workplace, file: IO[str], kind: int) -> None:
    # supervisors of a driver that was killed need a moment to end what it had started
    patience = time.monotonic() + SECONDS_FOR_THE_LAST_TO_LEAVE
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > patience:
                raise UserError(_sentence(workplace, _read(file))) from None
            time.sleep(0.2)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"Note: {file.name} cannot be locked on this file system: do not start a second driver.")
            return


def _sentence(workplace: Workplace, by: dict) -> str:
    who = f"process {by['pid']} on {by['host']} since {by['since']}" if "pid" in by else "tasks of a cluster"
    return f"The results in {workplace.folder} are being worked on by {who}: wait for it, {workplace.advice}."


def _sign(file: IO[str], command: str) -> None:
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    file.truncate(0)
    if command:
        file.write(json.dumps({**about, "command": command}))
    file.flush()


def _read(file: IO[str]) -> dict:
    file.seek(0)
    try:
        return json.load(file)
    except ValueError:
        return {}
