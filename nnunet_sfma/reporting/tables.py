"""One table, many formats: what the page shows and what the files beside it hold come from the same object."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnunet_sfma import csv_text
from nnunet_sfma.evaluation.fewer_cases import fewer

ABSENT = "–"
LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
}


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: its heading.
        show: turns a cell into text; called with the cell's values, the first of which is not None.
        parts: what the CSV file adds to the title for each value of a cell, such as ("mean", "sd"); () for one value.
        text: whether it holds words, which are aligned to the left.
    """

    title: str
    show: Callable[..., str] = str
    parts: tuple[str, ...] = ()
    text: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files, and its anchor in the page.
        caption: one sentence.
        columns: the first ``headers`` of them name the row.
        rows: a value for each column; a tuple of values where the column has parts. None is absent.
        notes: sentences below the table.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple, ...]
    notes: tuple[str, ...] = ()
    headers: int = 1

    @property
    def texts(self) -> list[list[str]]:
        """The rows as they are read."""
        return [[_text(column, cell) for column, cell in zip(self.columns, row, strict=True)] for row in self.rows]


def words(title: str) -> Column:
    """A column of words."""
    return Column(title, text=True)


def fitting_digits(*values: float | None) -> int:
    """Decimals for a column that holds shares and distances alike."""
    return 3 if all(abs(value) <= 1 for value in values if value is not None) else 2


def decimals(digits: int) -> Callable[[float], str]:
    """0.8841 as 0.884."""
    return lambda value: f"{value:.{digits}f}".replace("-", "−")


def plus_minus(digits: int) -> Callable[[float, float | None], str]:
    """A mean and a standard deviation, if there is one, as 0.884 ± 0.051."""
    show = decimals(digits)
    return lambda mean, sd: show(mean) if sd is None else f"{show(mean)} ± {show(sd)}"


MEAN_PARTS = ("mean", "sd", "n", "of")
"""What a cell of :func:`mean_over` holds."""


def mean_over(digits: int) -> Callable[[float, float | None, int | None, int | None], str]:
    """A mean and its deviation with the number of cases, where that is not all of them: 0.884 ± 0.051 (n = 4)."""
    show = plus_minus(digits)
    return lambda mean, sd, n, of: show(mean, sd) + fewer(n, of)


def interval(digits: int) -> Callable[[float, float], str]:
    """The limits of an interval as 0.877 to 0.889."""
    return lambda low, high: f"{decimals(digits)(low)} to {decimals(digits)(high)}"


def significant(value: float) -> str:
    """A size or a volume with three digits."""
    return f"{value:.3g}" if 0 < abs(value) < 1000 else f"{value:.0f}"


def p_value(value: float) -> str:
    """A probability of a test."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def to_markdown(table: Table) -> str:
    """The table for a README or an issue."""
    lines = [
        _markdown_row([column.title for column in table.columns]),
        "|" + "|".join("---" if column.text else "---:" for column in table.columns) + "|",
        *map(_markdown_row, table.texts),
    ]
    notes = [_escape_markdown(note) for note in table.notes]
    return "\n\n".join([f"**{_escape_markdown(table.caption)}**", "\n".join(lines), *notes]) + "\n"


def to_csv(table: Table) -> str:
    """The table for further work: every value in a column of its own, with all digits."""
    header = [f"{column.title} {part}".strip() for column in table.columns for part in column.parts or ("",)]
    rows = [
        [value for column, cell in zip(table.columns, row, strict=True) for value in _values(column, cell)]
        for row in table.rows
    ]
    return csv_text.to_csv(header, rows)


def to_latex(table: Table) -> str:
    """The table for a manuscript, without any package."""
    alignment = "".join("l" if column.text else "r" for column in table.columns)
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escape_latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\hline",
        _latex_row([column.title for column in table.columns]),
        r"\hline",
        *map(_latex_row, table.texts),
        r"\hline",
        r"\end{tabular}",
        *(rf"\par {_escape_latex(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


FORMATS = {".md": to_markdown, ".csv": to_csv, ".tex": to_latex}


def _values(column: Column, cell) -> tuple:
    if not column.parts:
        return (cell,)
    return (None,) * len(column.parts) if cell is None else cell


def _text(column: Column, cell) -> str:
    values = _values(column, cell)
    return ABSENT if values[0] is None else column.show(*values)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escape_markdown, cells)) + " |"


def _escape_markdown(text: str) -> str:
    text = re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escape_latex, cells)) + r" \\"


def _escape_latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))
