"""What a figure consists of, before it is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Overlay:
    """A map (h, w) of any resolution, drawn over the slice.

    Attributes:
        values: the map; it covers the whole patch.
        limits: values of the first and the last colour; None takes the map's own.
        pixel: row and column of a position of the map to mark.
    """

    values: torch.Tensor
    limits: tuple[float, float] | None = None
    pixel: tuple[int, int] | None = None


@dataclass(frozen=True)
class Curves:
    """Numbers by name, each drawn from its largest to its smallest.

    Attributes:
        values: one-dimensional.
        even: what all numbers would be if none were preferred; a dashed line.
    """

    values: Mapping[str, torch.Tensor]
    even: float | None = None


@dataclass(frozen=True)
class Matrix:
    """A square matrix, drawn as it is."""

    values: torch.Tensor


Panel = Overlay | Curves | Matrix


@dataclass(frozen=True)
class FigureOfPanels:
    """A figure of a report.

    Attributes:
        title: for a heading.
        caption: what is seen, in sentences.
        columns: headings of the columns.
        rows: panels by what they show; None leaves a place empty.
    """

    title: str
    caption: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Panel | None]]
