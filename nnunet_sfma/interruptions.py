"""Ctrl-C and termination: held off while something is tidied up, or turned into an ordered end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and termination in the block, so that an impatient second one cannot stop the tidying up."""
    with _handled(signal.SIGINT, signal.SIG_IGN), _handled(signal.SIGTERM, signal.SIG_IGN):
        yield


@contextmanager
def termination_as_exit() -> Iterator[None]:
    """A cluster ends its jobs with SIGTERM, which by itself leaves no time to tidy up."""

    def leave(number: int, frame) -> None:
        raise SystemExit(128 + number)

    with _handled(signal.SIGTERM, leave):
        yield


@contextmanager
def _handled(number: int, handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)
