"""CSV tables that a spreadsheet shows and does not compute."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV; None is an empty cell.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, as OWASP recommends; numbers stay
    numbers.

    Example:
        >>> to_csv(["case", "change"], [["=1+1", -0.5]])
        "case,change\\n'=1+1,-0.5\\n"
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow(map(_harmless, row))
    return text.getvalue()


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
