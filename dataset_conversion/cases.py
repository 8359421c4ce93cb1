"""What converters hand over: cases that are loaded only when they are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import SimpleITK as sitk  # noqa: N813

from dataset_conversion.image_files import read_volume


class Content(NamedTuple):
    """What a case holds once it is loaded.

    Attributes:
        images: the channels, in the order of the channel names.
        label: the label map, or None.
        extras: further label maps to keep beside the dataset, by kind; ``instances`` go to ``instancesTr`` or
            ``instancesTs``. nnU-Net does not read them.
        notes: what was put right on the way, a sentence each, for provenance and for the closing message.
        original_size: width and height of a picture that was resized, for provenance.
    """

    images: Sequence[sitk.Image]
    label: sitk.Image | None = None
    extras: Mapping[str, sitk.Image] = MappingProxyType({})
    notes: Sequence[str] = ()
    original_size: tuple[int, int] | None = None


class Piece(NamedTuple):
    """One nnU-Net case of the pieces that a case is cut into; ``suffix`` is appended to the case's identifier."""

    suffix: str
    images: Sequence[sitk.Image]
    label: sitk.Image | None


@dataclass(frozen=True)
class Case:
    """One patient, scan or picture, loaded only when it is written.

    Args:
        identifier: the case's name in the dataset: letters, digits, ``_``, ``-`` and ``.``.
        load: returns the :class:`Content`. It runs in the worker that writes the case, so it has to be picklable (a
            ``functools.partial`` of a module's function is) when more than one process is asked for.
        sources: the files that ``load`` reads, for provenance and for messages; empty for generated cases.
        part: the part of the release it comes from, such as ``Training``.
        subject: whom it shows; the cases of one subject have to stay in one fold. The identifier if None.
        stratum: a property that folds should balance, such as a disease group.
    """

    identifier: str
    load: Callable[[], Content]
    sources: tuple[Path, ...] = ()
    part: str = "Training"
    subject: str | None = None
    stratum: str | None = None

    @classmethod
    def from_files(
        cls, identifier: str, images: Sequence[Path], label: Path | None = None, **properties: str | None
    ) -> "Case":
        """A case that is read from one file for each channel and a label file, as they are."""
        files = (*images, label) if label else tuple(images)
        return cls(identifier, partial(_load_files, tuple(images), label), files, **properties)

    def __str__(self) -> str:
        names = ", ".join(path.name for path in self.sources)
        return f"Case {self.identifier}" + (f" ({names})" if names else "")


def _load_files(images: tuple[Path, ...], label: Path | None) -> Content:
    return Content([read_volume(path) for path in images], read_volume(label) if label else None)
