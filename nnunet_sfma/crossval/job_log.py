"""The log of a job: each command that was run for it, what it printed, and how it ended."""

import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO

from nnunet_sfma.crossval.supervise import ENDED, GONE
from nnunet_sfma.errors import UserError

STARTED = "$ "
TIME = "%Y-%m-%d %H:%M:%S"
BEGUN = re.compile(r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]$", re.MULTILINE)
EXIT_CODE = re.compile(rf"{re.escape(ENDED)}(\d{{1,3}})\]")
LAST_BYTES = 20_000
# what batchgenerators, nnU-Net and this package say of workers that were killed, and of those that failed
LOST_WORKER = re.compile(
    "background workers are no longer alive|Background workers died|A worker process ended unexpectedly|"
    + re.escape(GONE)
)
WORKERS_OWN_EXCEPTION = re.compile(r"^Exception in background worker \d|^Process \w+-\d+(:\d+)?:$", re.MULTILINE)


def begin(path: Path, command: Sequence[str], environment: Mapping[str, str]) -> TextIO:
    """Open a log to append the output of a command to, and write the command itself.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("a", encoding="utf-8")
        log.write(f"\n[{datetime.now():{TIME}}]\n{STARTED}{as_typed(command, environment)}\n")
        log.flush()
    except OSError as error:
        raise UserError(f"Could not write {path} ({error.strerror}): make room or make it writable.") from error
    return log


def as_typed(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The command as a user would type it."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in environment.items()), shlex.join(command)])


def exit_code(path: Path) -> int | None:
    """The exit code of the last command; None if it runs, was cut off, or there was none."""
    last = tail(path, 1, with_end=True)
    match = EXIT_CODE.fullmatch(last[0]) if last else None
    return int(match[1]) if match else None


def runs_since(path: Path, since: str) -> bool:
    """Whether the last command was started at that time or later, and has not ended.

    Args:
        since: as logs and locks write it, ``YYYY-MM-DD hh:mm:ss``.
    """
    return path.is_file() and exit_code(path) is None and begun(path) >= since


def begun(path: Path) -> str:
    """When the last command was started, ``YYYY-MM-DD hh:mm:ss``; empty if none was."""
    times = BEGUN.findall(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else []
    return times[-1] if times else ""


def tail(path: Path, lines: int = 8, with_end: bool = False) -> list[str]:
    """The last lines that are not empty; without the one that says how the command ended."""
    written = [line.rstrip() for line in _end_of(path).splitlines() if line.strip()]
    return [line for line in written if with_end or not line.startswith(ENDED)][-lines:]


def tells_of_lost_worker(path: Path) -> bool:
    """Whether the last command ended because a worker process of its own was killed.

    A worker that ends on an exception of its own prints it, and would end on it again.
    """
    printed = _end_of(path).rpartition(f"\n{STARTED}")[2]
    return bool(LOST_WORKER.search(printed)) and not WORKERS_OWN_EXCEPTION.search(printed)


def _end_of(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        return file.read().decode(errors="replace")
