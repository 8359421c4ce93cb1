"""One training of a fold at a time, whoever started it.

The lock is the process' own and ends with it: the augmentation workers of a killed training do not keep it. That of a
node that died ends on a network file system only when the server has noticed.
"""

import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nnunet_sfma.errors import UserError
from nnunet_sfma.locks import open_lock, sign, signature, take

NAME = "training.lock"
SECONDS_FOR_A_DEAD_NODE = 300  # half of what the other ranks of a training wait for the first
CLUSTERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")  # set for each task


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a fold while it is trained or validated.

    The task of a cluster, which may have been queued again, waits some minutes for a process on another node.

    Args:
        folder: of the fold.

    Raises:
        UserError: if another process holds it, or the lock cannot be written.
    """
    with open_lock(folder / NAME) as file:
        if not _take(file, 0) and not (_may_be_of_a_dead_node(file) and _take(file, SECONDS_FOR_A_DEAD_NODE)):
            raise UserError(f"{folder} is being trained or validated by {_holder(file)}: wait for it, or end it first.")
        sign(file, " ".join(sys.argv))
        yield
        file.truncate(0)


def is_held(folder: Path) -> bool:
    """Whether another process trains or validates the fold."""
    try:
        with (folder / NAME).open("r+") as file:
            return not _take(file, 0)
    except PermissionError:  # somebody else's, who may be training
        return True
    except OSError:  # there is none
        return False


def _take(file: IO[str], patience: float) -> bool:
    return take(file, fcntl.LOCK_EX, patience, fcntl.lockf)


def _may_be_of_a_dead_node(file: IO[str]) -> bool:
    if signature(file).get("host", socket.gethostname()) == socket.gethostname() or not {*CLUSTERS} & os.environ.keys():
        return False
    print(f"{file.name} is held by {_holder(file)}: waiting up to {SECONDS_FOR_A_DEAD_NODE} s for it.", flush=True)
    return True


def _holder(file: IO[str]) -> str:
    by = signature(file)
    return f"process {by['pid']} on {by['host']} since {by['since']}" if "pid" in by else "another process"
