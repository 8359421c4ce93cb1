"""Parts of the sentences that users read."""

from collections.abc import Sequence


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first names, and an ellipsis if there are more."""
    return ", ".join([*names[:most], "..."] if len(names) > most else names)
