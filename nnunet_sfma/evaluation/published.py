"""The papers' printed numbers, as data."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

PROTOCOL = {
    "split": "Split",
    "level": "Level of the split",
    "folds": "Folds",
    "selection": "Selection on the test set",
    "input": "Input",
    "slices": "Slices",
    "resizing": "Resizing",
    "pretraining": "Pretraining",
    "training": "Training",
    "augmentation": "Augmentation",
    "network": "Network",
    "average": "Averaging",
    "empty": "Empty masks",
    "miou": "Background in mIoU",
    "f1": "F1",
    "distances": "Unit of distances",
}
"""What can differ between an evaluation of ours and a published one: keys of ``published.json``, and their titles."""


@dataclass(frozen=True)
class Column:
    """One column of a published table.

    Attributes:
        title: as printed.
        metric: key of the metric in an evaluation; None for costs.
        class_name: the class as our converters call it; None for the mean over all classes.
        scale: 100 for percentages, 1 for fractions and numbers with units.
        decimals: as printed.
    """

    title: str
    metric: str | None
    class_name: str | None
    scale: int
    decimals: int


@dataclass(frozen=True)
class Row:
    """One method with a value for each column, None where nothing is printed.

    ``preset`` is the one whose network stands for the method (a peer is a library's, which may differ in detail), None
    if this project has none: then the row is a published number only.
    """

    method: str
    values: tuple[float | None, ...]
    preset: str | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class ProtocolItem:
    """What a paper says of one key of :data:`PROTOCOL`, in our words, and whether it states the matter at all."""

    key: str
    title: str
    stated: bool
    text: str


@dataclass(frozen=True)
class Table:
    """A published table, or its part on one data set.

    Attributes:
        paper: the paper's key in ``published.json``, also the ``paper`` of presets.
        name: paper and number.
        title: what it shows, in our words.
        release: the data set, as in ``nnunet-sfma convert``.
        classes: over which the means are taken, as our converters call them.
        remarks: what does not fit within the paper; nothing is corrected.
        protocol: how the numbers came about, in the order of :data:`PROTOCOL`.
    """

    paper: str
    name: str
    title: str
    citation: str
    release: str
    classes: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    protocol: tuple[ProtocolItem, ...]


@cache
def load_published() -> dict:
    """Everything in ``published.json``: paper, then table, then row, each with its source."""
    return json.loads(files("nnunet_sfma.evaluation").joinpath("published.json").read_text(encoding="utf-8"))


def published_releases() -> list[str]:
    """The data sets that the papers' tables cover."""
    return sorted(release for paper in load_published().values() for release in paper["classes"])


def tables_for(release: str) -> list[Table]:
    """All published tables on a data set, the comparison with other methods first; none if no paper uses it."""
    return [
        _table(key, entry, release)
        for key, paper in load_published().items()
        for entry in paper["tables"]
        if release in entry["releases"]
    ]


def _table(key: str, entry: dict, release: str) -> Table:
    paper = load_published()[key]
    kept = [n for n, column in enumerate(entry["columns"]) if column.get("release", release) == release]
    said = {**paper["protocol"]["all"], **paper["protocol"][release]}
    return Table(
        paper=key,
        name=f"{paper['name']}, Table {entry['number']}",
        title=entry["title"],
        citation=paper["citation"],
        release=release,
        classes=tuple(paper["classes"][release]),
        columns=tuple(_column(entry["columns"][n], entry) for n in kept),
        rows=tuple(_row(row, kept) for row in entry["rows"]),
        remarks=tuple(entry["remarks"]),
        protocol=tuple(ProtocolItem(item, title, **said[item]) for item, title in PROTOCOL.items() if item in said),
    )


def _column(column: dict, table: dict) -> Column:
    return Column(
        title=column["title"],
        metric=column["metric"],
        class_name=column.get("class"),
        scale=column.get("scale", table["scale"]),
        decimals=column.get("decimals", table["decimals"]),
    )


def _row(row: dict, kept: list[int]) -> Row:
    values = tuple(row["values"][n] for n in kept)
    return Row(row["method"], values, row["preset"], tuple(row.get("remarks", ())))
