"""The figures of ``nnunet-sfma explain`` that lie beside an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_sfma.explaining.explain_folder import read_figures
from nnunet_sfma.reporting.images import shrunk_uri
from nnunet_sfma.reporting.models import Model

WIDTH = 900
MOST_BYTES = 2_000_000


@dataclass(frozen=True)
class ExplainFigure:
    """A figure as a data URI with its size in pixels and what explain says about it."""

    image: str
    size: tuple[int, int]
    title: str
    caption: str
    place: str


@dataclass(frozen=True)
class Explained:
    """What explain drew for one model, and sentences on what is not shown."""

    label: str
    figures: tuple[ExplainFigure, ...]
    notes: tuple[str, ...]


def read_explained(models: Sequence[Model]) -> list[Explained]:
    """The figures of the models that have any; together they are small enough for a mail."""
    found = [(model, read_figures(_folder(model))) for model in models]
    found = [(model, listing) for model, listing in found if listing]
    return [_read(model, listing, MOST_BYTES // len(found)) for model, listing in found]


def _folder(model: Model) -> Path:
    return Path(model.evaluation["path"]).parent / "explain"


def _read(model: Model, listing: Sequence[dict], most_bytes: int) -> Explained:
    figures, unreadable, left = [], [], most_bytes
    for entry in listing:
        try:
            image, size = shrunk_uri(_folder(model) / entry["file"], WIDTH)
        except OSError:
            unreadable.append(entry["file"])
            continue
        left -= len(image)
        if left < 0:
            break
        place = f"{entry['case']}, slice {entry['slice']}, {entry['network']}"
        figures.append(ExplainFigure(image, size, entry["title"], entry["caption"], place))
    notes = [f"Could not be read: {', '.join(unreadable)}."] if unreadable else []
    more = len(listing) - len(figures) - len(unreadable)
    if more:
        notes.append(f"{more} more lie in {_folder(model)}; they would make this file too large for a mail.")
    return Explained(model.label, tuple(figures), tuple(notes))
