"""Parts of the sentences that users read."""

from collections.abc import Sequence


def last_line(error: object) -> str:
    """Of the text of an error, of which programs say first where and last what."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first names, and an ellipsis if there are more."""
    return ", ".join([*names[:most], "..."] if len(names) > most else names)
