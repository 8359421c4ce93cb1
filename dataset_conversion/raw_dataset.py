"""A raw data set and what its ``provenance.json`` tells of its cases: whom they show, and what folds should balance."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dataset_conversion.release import Release, load_release, release_names
from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import BARE_NAME, read_json
from nnunet_sfma.sentences import first_few
from nnunet_sfma.subjects import NAME, declared_subjects

INCOMPLETE = "is no complete raw data set"
OPTIONAL_TEXT = {"type": ["string", "null"]}
DATASET = {
    "type": "object",
    "required": ["file_ending"],
    "properties": {"file_ending": {"type": "string", "pattern": r"^(\.[A-Za-z0-9]{1,10}){1,3}$"}},
}
LENGTHS = {"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "number", "exclusiveMinimum": 0}}
GRID = {
    "type": "object",
    "required": ["size", "spacing", "origin", "direction"],
    "properties": {
        "size": {**LENGTHS, "items": {"type": "integer", "minimum": 1, "maximum": 4096}},
        "spacing": LENGTHS,
        "origin": {**LENGTHS, "items": {"type": "number"}},
        "direction": {"type": "array", "minItems": 9, "maxItems": 9, "items": {"type": "number"}},
    },
}
CASE = {
    "type": "object",
    "required": ["split", "subject", "part", "stratum", "foreground"],
    "properties": {
        "split": {"enum": ["Tr", "Ts"]},
        "subject": {"type": "string"},
        "part": {"type": "string"},
        "stratum": OPTIONAL_TEXT,
        "foreground": {"type": ["number", "null"], "minimum": 0},
        "slices": {"type": "array", "items": BARE_NAME},
        "grid": GRID,
    },
}
PROVENANCE = {
    "type": "object",
    "required": ["options", "cases"],
    "properties": {
        "options": {
            "type": "object",
            "properties": {
                "release": {"enum": [None, *release_names()]},
                "layout": OPTIONAL_TEXT,
                "paper_slices": {"enum": [None, "all", "lesion"]},
            },
        },
        "cases": {"type": "object", "propertyNames": BARE_NAME, "additionalProperties": CASE},
        "folds_sha256": {"type": "string"},
    },
}


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
    """A data set in nnUNet_raw; where no subjects are known, each case counts as one of its own.

    Attributes:
        folds_sha256: of the folds that its conversion shipped; None if it shipped none, or is of an earlier version.
    """

    folder: Path
    file_ending: str
    training: list[Member]
    official_test: list[Member]
    release: Release | None = None
    layout: str | None = None
    slices: str | None = None
    subjects_known: bool = True
    folds_sha256: str | None = None


def read_raw_dataset(folder: Path) -> RawDataset:
    """Read a raw data set, whoever converted it. The subjects are those of ``subjects.json``, or else of provenance.

    Raises:
        UserError: if it is not there, ``dataset.json``, ``provenance.json`` or ``subjects.json`` is damaged, or the
            latter lacks a training case.
    """
    return _with_declared_subjects(read_as_converted(folder))


def read_as_converted(folder: Path) -> RawDataset:
    """Read a raw data set as its conversion left it, whomever its user has declared since.

    Raises:
        UserError: if it is not there, or ``dataset.json`` or ``provenance.json`` is damaged.
    """
    file_ending = _entries(folder / "dataset.json", DATASET)["file_ending"]
    if not (folder / "provenance.json").is_file():
        return RawDataset(folder, file_ending, _cases_alone(folder, file_ending), [], subjects_known=False)
    entries = _entries(folder / "provenance.json", PROVENANCE)
    options, training = entries["options"], members(entries["cases"], "Tr")
    test = members(entries["cases"], "Ts")
    release, layout, slices = (options.get(key) for key in ("release", "layout", "paper_slices"))
    facts = load_release(release) if release else None
    if facts and layout not in facts.totals:
        raise UserError(f"{folder} {INCOMPLETE} (provenance.json has '{layout}' for the layout): convert it again.")
    return RawDataset(
        folder, file_ending, training, test, facts, layout, slices, folds_sha256=entries.get("folds_sha256")
    )


def _with_declared_subjects(raw: RawDataset) -> RawDataset:
    declared = declared_subjects(raw.folder)
    if not declared:
        return raw
    missing = [member.identifier for member in raw.training if member.identifier not in declared]
    if missing:
        raise UserError(
            f"{raw.folder / NAME} lacks {len(missing)} of the {len(raw.training)} training cases "
            f"({first_few(missing)}): name the subject of each, or remove the file."
        )
    training, test = (
        [replace(member, subject=declared.get(member.identifier, member.subject)) for member in cases]
        for cases in (raw.training, raw.official_test)
    )
    return replace(raw, training=training, official_test=test, subjects_known=True)


def _entries(path: Path, schema: dict) -> dict:
    missing = f"{path.parent} {INCOMPLETE} (there is no {path.name}): convert it again."
    return read_json(path, schema, advice=f"the folder {INCOMPLETE}, convert it again", missing=missing)


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
