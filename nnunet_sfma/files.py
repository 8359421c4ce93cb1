"""Text files that are whole or not there."""

import os
from pathlib import Path

from nnunet_sfma.errors import UserError


def replace_text(path: Path, text: str) -> None:
    """Write a file beside the old one and rename it.

    Raises:
        UserError: if it cannot be written; the old one stays as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"Could not write {path} ({error.strerror}): make room or choose another place.") from error
