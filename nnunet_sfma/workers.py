"""One function over many jobs, in worker processes that end with their parent and whose errors are sentences."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import TypeVar

from tqdm import tqdm

from nnunet_sfma.errors import UserError
from nnunet_sfma.interruptions import undisturbed

Result = TypeVar("Result")


def in_parallel(
    function: Callable[..., Result], jobs: Sequence[tuple], processes: int, title: str
) -> Generator[Result, None, None]:
    """Yield ``function(*job)`` for all jobs, in their order and with a progress bar.

    Args:
        function: of a module, so that a new process finds it.
        jobs: its arguments.
        processes: 1 computes in this process.
        title: of the progress bar; what is done to a case.

    Raises:
        UserError: what ``function`` raised, or if a worker process died.
    """
    results = _parallel(function, jobs, processes, len(jobs)) if processes > 1 else (function(*job) for job in jobs)
    with closing(results), tqdm(results, total=len(jobs), desc=title, unit="case", disable=None) as bar:
        yield from bar


def few_ahead(function: Callable[..., Result], jobs: Iterable[tuple], processes: int) -> Generator[Result, None, None]:
    """Yield ``function(*job)`` for all jobs, in their order, with no more results waiting than there are processes.

    Args:
        function: as of :func:`in_parallel`.
        jobs: its arguments; of an iterator, no more are taken than are wanted.
        processes: 0 computes in this process.

    Raises:
        UserError: as :func:`in_parallel`.
    """
    return _parallel(function, jobs, processes, processes) if processes else (function(*job) for job in jobs)


def _parallel(
    function: Callable[..., Result], jobs: Iterable[tuple], processes: int, ahead: int
) -> Generator[Result, None, None]:
    """With at most so many jobs ``ahead`` of the one whose result is yielded."""
    # A UserError is a SystemExit: it would end a worker of multiprocessing.Pool, and the pool would wait for ever.
    executor = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        futures = deque()
        for job in jobs:
            # Ctrl-C reaches all processes of a terminal; workers inherit that they are to leave it to their parent.
            with undisturbed():
                futures.append(executor.submit(function, *job))
            if len(futures) > ahead:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "A worker process ended unexpectedly, most likely for lack of memory; try again with fewer processes."
        ) from error
    finally:
        # Workers have to be at rest before what they write can be removed; an interrupted shutdown hangs for ever.
        with undisturbed():
            executor.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """A worker waits for its next case for ever, even if its parent was killed."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
