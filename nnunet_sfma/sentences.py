"""Parts of the sentences that users read."""

from collections.abc import Sequence


def first_line(error: Exception) -> str:
    """Of the text of an error, of which libraries say first what happened."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def last_line(error: object) -> str:
    """Of the text of an error, of which programs say first where and last what."""
    return (str(error).strip() or repr(error)).splitlines()[-1]


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first names, and an ellipsis if there are more."""
    return ", ".join([*names[:most], "..."] if len(names) > most else names)


def as_clause(error: Exception) -> str:
    """The sentence of an error, to stand within another one."""
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]


def shortened(text: str, most: int = 160) -> str:
    """A text that may quote a whole file, in one line of at most ``most`` characters.

    Example:
        >>> shortened("[1, 2, 3, 4]", 8)
        '[1, 2...'
    """
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3].rstrip(', ')}..."
