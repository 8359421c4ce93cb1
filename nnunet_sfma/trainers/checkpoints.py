"""Checkpoint files: whole at every moment, told from damaged ones, and one kept before the latest."""

import contextlib
import errno
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import first_line
from nnunet_sfma.trainers.checkpoint_reader import (
    UNREADABLE,
    DamagedCheckpointError,
    find_damaged,
    read_checkpoint,
    read_facts,
)

FINAL = "checkpoint_final.pth"
LATEST = "checkpoint_latest.pth"
PREVIOUS = "checkpoint_previous.pth"
BEST = "checkpoint_best.pth"
REPLACED = "checkpoint_replaced.pth"


def replace_checkpoint(path: Path, write: Callable[[str], None], keep_old: bool = False) -> None:
    """Write a checkpoint beside the old one and rename it, so that there is a whole one at any moment.

    Args:
        path: of the checkpoint.
        write: writes it to the file that it is given.
        keep_old: keep the old one as ``checkpoint_previous.pth``.

    Raises:
        UserError: if it cannot be written; the checkpoint that was there stays.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        write(str(partial))
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        if keep_old and path.is_file():
            _keep_as_previous(path)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"Could not write {path} ({first_line(error)}): make room or make it writable, then continue with --c; "
            f"earlier checkpoints are intact."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _keep_as_previous(path: Path) -> None:
    """Give the file a second name, which takes no room; only where that is not possible make a copy."""
    previous = path.with_name(PREVIOUS)
    partial = path.with_name(f"{PREVIOUS}.partial")
    partial.unlink(missing_ok=True)
    try:
        _link_or_copy(path, partial)
        partial.replace(previous)
    finally:
        # renaming one name of a file to another of its names does nothing
        partial.unlink(missing_ok=True)


def _link_or_copy(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def replace_training(folder: Path) -> None:
    """Make room for a training from the start: of an earlier one there is nothing to continue from or to fall back to.

    Its final checkpoint, by which a fold counts as trained, is kept under another name until the new training ends.
    """
    (folder / PREVIOUS).unlink(missing_ok=True)
    if (folder / FINAL).is_file():
        (folder / FINAL).replace(folder / REPLACED)


def reopen_training(folder: Path) -> None:
    """Let a finished training that goes on be continued from its latest checkpoint if it is interrupted.

    nnU-Net continues from the final checkpoint as long as there is one, and would lose each time what came after it.
    """
    if (folder / FINAL).is_file():
        partial = folder / f"{LATEST}.partial"
        partial.unlink(missing_ok=True)
        _link_or_copy(folder / FINAL, partial)
        partial.replace(folder / LATEST)
        (folder / FINAL).replace(folder / REPLACED)


def restore_replaced(folder: Path) -> None:
    """Undo :func:`replace_training` if the new training was ended before it had a checkpoint to continue from."""
    if (folder / REPLACED).is_file() and not any((folder / name).is_file() for name in (FINAL, LATEST)):
        (folder / REPLACED).replace(folder / FINAL)


def set_aside_damaged(folder: Path) -> list[str]:
    """Rename checkpoints that nnU-Net would continue from or validate although they were cut off, to ``*.damaged``.

    Trainers of ours go back from a damaged latest checkpoint to the one before it by themselves; nnU-Net's own, which
    keep none and may be stopped while they write, go on from the best then, or start again.

    Returns:
        A sentence for each.

    Raises:
        OSError: if one cannot be read at all, which says nothing of what is in it.
    """
    sentences = []
    for name in (FINAL, *([] if (folder / PREVIOUS).is_file() else [LATEST, BEST])):
        path = folder / name
        if not path.is_file():
            continue
        if _is_whole_archive(path):
            break  # it is the one that will be used
        path.replace(path.with_name(f"{name}.damaged"))
        sentences.append(f"{path} was damaged and is now called {name}.damaged.")
    return sentences


def _is_whole_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return find_damaged(archive) is None
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # the latter is a place before the file's start
            raise
        return False


def remove_leftovers(folder: Path) -> None:
    """Remove what a finished fold does not need: replaced and previous checkpoints, and files half written."""
    for path in (folder / PREVIOUS, folder / REPLACED, *folder.glob("*.partial")):
        path.unlink(missing_ok=True)


def find_whole(path: Path) -> tuple[Path, dict, str | None]:
    """The checkpoint of this path or, where the latest is damaged, the one before it or the best.

    Any other checkpoint is asked for because of its weights, which no other one has.

    Returns:
        Its path and content, and why the latest cannot be read if it is another.

    Raises:
        UserError: if no such checkpoint can be read, or one names something that is not trusted.
    """
    names = [LATEST, PREVIOUS, BEST] if path.name == LATEST else [path.name]
    damaged: dict[str, str] = {}
    for candidate in (path.with_name(name) for name in names):
        if candidate != path and not candidate.is_file():
            continue
        try:
            return candidate, read_checkpoint(candidate), damaged.get(path.name)
        except DamagedCheckpointError as error:
            damaged[candidate.name] = str(error)
    which = " and ".join(f"{name} ({reason})" for name, reason in damaged.items())
    others = path.name != LATEST and any(path.with_name(name).is_file() for name in {FINAL, LATEST, BEST} - {path.name})
    advice = "remove it and continue with --c" if others else "train the fold again without --c"
    raise UserError(f"Cannot read {which} in {path.parent}: {advice}.")


def newest_facts(folder: Path) -> dict | None:
    """Return what the checkpoint of a fold tells that nnU-Net would go on with, see :func:`read_facts`.

    None if there is none, or none can be read. Of a finished fold only the final one counts.

    Raises:
        UserError: if one names something that is not trusted.
    """
    for name in (FINAL, LATEST, PREVIOUS, BEST):
        if (folder / name).is_file():
            with contextlib.suppress(DamagedCheckpointError):
                return read_facts(folder / name)
            if name == FINAL:
                return None
    return None
