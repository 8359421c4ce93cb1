"""A folder that is complete or not there, whatever interrupts its making."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.interruptions import termination_as_exit, undisturbed


@contextmanager
def all_or_nothing(target: Path) -> Iterator[Path]:
    """A hidden folder that becomes the target if the block succeeds and vanishes if it does not.

    Its fixed name also keeps two conversions from writing one dataset at a time; nnU-Net does not see it.
    """
    folder = target.with_name(f".{target.name}.unfinished")
    with _locked_and_empty(folder), termination_as_exit():
        _restore(target)
        try:
            yield folder
            _publish(folder, target)
        except OSError as error:
            _discard(folder)
            raise UserError(
                f"{target} could not be written ({error}); free space or choose another nnUNet_raw; nothing is left "
                "of it."
            ) from error
        except BaseException:
            _discard(folder)
            raise


@contextmanager
def _locked_and_empty(folder: Path) -> Iterator[None]:
    """The folder, held by this process alone; what a killed conversion left in it is removed.

    The lock ends with the process, so a folder that is there but not locked belongs to nobody.
    """
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"nnUNet_raw={folder.parent} is not writable ({error.strerror}); choose another.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder} is in use: another conversion is writing this dataset; wait for it, or stop it."
            ) from error
        leftovers = list(folder.iterdir())
        if leftovers:
            print(f"Removing what an interrupted conversion left in {folder}.")
        for path in leftovers:
            _remove(path)
        yield
    finally:
        os.close(descriptor)


def _discard(folder: Path) -> None:
    with undisturbed():
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, target: Path) -> None:
    if not os.path.lexists(target):
        folder.rename(target)
        return
    replaced = _replaced(target)
    target.rename(replaced)
    try:
        folder.rename(target)
    except BaseException:
        replaced.rename(target)
        raise
    _remove(replaced)


def _replaced(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _restore(target: Path) -> None:
    """Tidy up after a replacement that was killed: between the two renames the old folder has only its hidden name."""
    replaced = _replaced(target)
    if not os.path.lexists(replaced):
        return
    if os.path.lexists(target):
        _remove(replaced)
    else:
        replaced.rename(target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()
