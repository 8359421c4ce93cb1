"""One training of a fold at a time, whoever started it.

The lock is the process' own and ends with it: the augmentation workers of a killed training do not keep it.
"""

import contextlib
import fcntl
import sys
from collections.abc import Iterator
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.locks import open_lock, sign, signature, take

NAME = "training.lock"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a fold while it is trained or validated.

    Args:
        folder: of the fold.

    Raises:
        UserError: if another process holds it, or the lock cannot be written.
    """
    with open_lock(folder / NAME) as file:
        if not take(file, fcntl.LOCK_EX, lock=fcntl.lockf):
            by = signature(file)
            who = f"process {by['pid']} on {by['host']} since {by['since']}" if "pid" in by else "another process"
            raise UserError(f"{folder} is being trained or validated by {who}: wait for it, or end it first.")
        sign(file, " ".join(sys.argv))
        yield
        file.truncate(0)


def is_held(folder: Path) -> bool:
    """Whether another process trains or validates the fold."""
    try:
        with (folder / NAME).open("r+") as file:
            return not take(file, fcntl.LOCK_EX, lock=fcntl.lockf)
    except PermissionError:  # somebody else's, who may be training
        return True
    except OSError:  # there is none
        return False
