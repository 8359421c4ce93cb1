"""Names of files that a sentence, a table and ITK can take."""

from collections.abc import Iterable
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import first_few


def refuse_unreadable_names(folder: Path, names: Iterable[str]) -> None:
    """Refuse names that are not printable text: with line breaks, or of bytes that are not UTF-8.

    Of the latter ITK would end the whole program.

    Args:
        folder: that holds the files; its own path is looked at as well.
        names: of the files.

    Raises:
        UserError: if there are such names.
    """
    if not str(folder).isprintable():
        raise UserError(f"The path {str(folder)!r} is not printable text: rename that folder.")
    unreadable = sorted(repr(name) for name in names if not name.isprintable())
    if unreadable:
        raise UserError(
            f"{folder} holds names that no table can show ({first_few(unreadable, 3)}): rename these files."
        )
