"""Text files that are whole or not there; checksums."""

import hashlib
import os
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from nnunet_sfma.errors import UserError


def replace_text(path: Path, text: str) -> None:
    """Write a file beside the old one and rename it.

    Raises:
        UserError: if it cannot be written; the old one stays as it was.
    """
    replace_texts({path: text})


def replace_texts(texts: Mapping[Path, str]) -> None:
    """Write several files beside the old ones, and rename them when all are written.

    The names of the new files are drawn: two programs that write the same file do not disturb each other, and a link
    that waits under such a name is not followed.

    Raises:
        UserError: if one cannot be written; the old ones stay as they were.
    """
    partial: dict[Path, Path] = {}
    path = next(iter(texts))
    try:
        for path, text in texts.items():
            partial[path] = write_beside(path, text.encode())
        for path in texts:
            os.replace(partial[path], path)
    except OSError as error:
        raise UserError(f"Could not write {path} ({error.strerror}): make room or choose another place.") from error
    finally:
        for left in partial.values():
            left.unlink(missing_ok=True)


def write_beside(path: Path, content: bytes) -> Path:
    """Write a new file with a drawn name beside ``path``.

    Returns:
        The new file, to be renamed to ``path``.

    Raises:
        OSError: if it cannot be written; nothing is left then.
    """
    new = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.partial")
    try:
        with new.open("xb") as file:  # exclusive: neither another file nor what a link points to
            file.write(content)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    return new


def sha256(path: Path) -> str:
    """The checksum of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(partial(file.read, 2**20), b""):
            digest.update(block)
    return digest.hexdigest()
