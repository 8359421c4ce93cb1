"""A raw data set and what its ``provenance.json`` tells of its cases: whom they show, and what folds should balance."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataset_conversion.release import Release, load_release
from nnunet_sfma.errors import UserError

DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Member:
    """One nnU-Net case.

    Attributes:
        subject: whom it shows; all cases of a subject belong to one side of a split.
        part: of the release, such as ``Training``.
        stratum: a disease group or grade; empty if unknown.
        foreground: how much is labelled, in mm^3, or pixels of a picture; 0 if unknown.
    """

    identifier: str
    subject: str
    part: str = "Training"
    stratum: str = ""
    foreground: float = 0.0


@dataclass(frozen=True)
class RawDataset:
    """A data set in nnUNet_raw; without provenance each case counts as a subject of its own."""

    folder: Path
    file_ending: str
    training: list[Member]
    official_test: list[Member]
    release: Release | None = None
    layout: str | None = None
    slices: str | None = None
    subjects_known: bool = True


def read_raw_dataset(folder: Path) -> RawDataset:
    """Read a raw data set, whoever converted it.

    Raises:
        UserError: if it is not there, or ``dataset.json`` or ``provenance.json`` is damaged.
    """
    provenance = folder / "provenance.json"
    try:
        file_ending = json.loads((folder / "dataset.json").read_text())["file_ending"]
        if not provenance.is_file():
            return RawDataset(folder, file_ending, _cases_alone(folder, file_ending), [], subjects_known=False)
        entries = json.loads(provenance.read_text())
        options, training = entries["options"], members(entries["cases"], "Tr")
        test = members(entries["cases"], "Ts")
        release, layout, slices = (options.get(key) for key in ("release", "layout", "paper_slices"))
        facts = load_release(release) if release else None
        if facts:
            facts.totals[layout]  # a layout that is none is damage
    except DAMAGED as error:
        raise UserError(f"{folder} is no complete raw data set ({error!r}): convert it again.") from None
    return RawDataset(folder, file_ending, training, test, facts, layout, slices)


def members(cases: Mapping[str, dict], split: str) -> list[Member]:
    """A member for each nnU-Net case of ``Tr`` or ``Ts`` in provenance; slices share all properties of their volume."""
    return [
        Member(identifier, entry["subject"], entry["part"], entry["stratum"] or "", entry["foreground"] or 0.0)
        for case, entry in cases.items()
        if entry["split"] == split
        for identifier in entry.get("slices", [case])
    ]


def _cases_alone(folder: Path, file_ending: str) -> list[Member]:
    labels = sorted(path.name.removesuffix(file_ending) for path in (folder / "labelsTr").glob(f"*{file_ending}"))
    if not labels:
        raise UserError(f"{folder} has no labels in labelsTr: convert the data set first.")
    return [Member(identifier, identifier) for identifier in labels]
