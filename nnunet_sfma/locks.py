"""Files that are locked while somebody works on results, and say who does."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import parse_json

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
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
BY_ANOTHER = (errno.EACCES, errno.EAGAIN)


def open_lock(path: Path) -> IO[str]:
    """Open a file to be locked.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise UserError(f"Could not write {path} ({error.strerror}): make room or make it writable.") from error


def take(file: IO[str], kind: int, patience: float = 0, lock: Callable = fcntl.flock) -> bool:
    """Return whether the file could be locked within some seconds; True where the file system knows no locks.

    Args:
        kind: ``fcntl.LOCK_EX`` or ``fcntl.LOCK_SH``.
        lock: ``fcntl.flock``, whose lock processes inherit that are started, or ``fcntl.lockf``, whose lock is this
            process' own.
    """
    until = time.monotonic() + patience
    while True:
        try:
            lock(file, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in NO_LOCKS:
                print(f"Note: {file.name} cannot be locked on this file system: do not start the same twice.")
                return True
            if error.errno not in BY_ANOTHER:
                raise UserError(f"Could not lock {file.name} ({error.strerror}): look at the file system.") from error
            if time.monotonic() >= until:
                return False
            time.sleep(0.2)


def sign(file: IO[str], command: str) -> None:
    """Write down who holds the lock."""
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    with contextlib.suppress(OSError):  # only for people: a full disk ends nothing here
        file.truncate(0)
        file.write(json.dumps({**about, "command": command}))
        file.flush()


def signature(file: IO[str]) -> dict:
    """Return what :func:`sign` wrote: ``host``, ``pid``, ``since``, ``command``; empty if damaged or not there."""
    with contextlib.suppress(OSError, UserError, ValueError):
        file.seek(0)
        return parse_json(file.read(), SIGNATURE, source=file.name)
    return {}
