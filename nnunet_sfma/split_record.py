"""What ``nnunet-sfma splits`` keeps beside ``splits_final.json``: where a split comes from, and its test cases.

nnU-Net knows training and validation only. Test cases that lie in imagesTr are protected by this record alone, so it is
read by the trainers as well.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import STRINGS, read_json

NAME = "split_record.json"
SPLITS_FILE = "splits_final.json"
FOLDS = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "object", "required": ["train", "val"], "properties": {"train": STRINGS, "val": STRINGS}},
}
TEXT_OR_NULL = {"type": ["string", "null"]}
RECORD = {
    "type": "object",
    "required": ["scheme", "seed", "source", "notes", "sha256", "test", "test_images", "test_labels"],
    "properties": {
        "scheme": {"type": "string"},
        "seed": {"type": ["integer", "null"]},
        "source": {"type": "string"},
        "notes": STRINGS,
        "sha256": {"type": "string"},
        "test": STRINGS,
        "test_images": TEXT_OR_NULL,
        "test_labels": TEXT_OR_NULL,
    },
}


@dataclass(frozen=True)
class SplitRecord:
    """Where a split comes from.

    Attributes:
        scheme: ``five-fold`` or ``paper``.
        seed: of the random part; None for published lists.
        source: who published the list, or how the split was drawn.
        notes: what the user should know of it.
        sha256: of folds and test cases; see :func:`split_checksum`.
        test: test cases by nnU-Net's identifiers; in no fold.
        test_images, test_labels: folders to predict and to evaluate; None without test cases (or labels).
    """

    scheme: str
    seed: int | None
    source: str
    notes: tuple[str, ...]
    sha256: str
    test: tuple[str, ...]
    test_images: str | None
    test_labels: str | None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def read_split_record(folder: Path) -> SplitRecord | None:
    """The record in a data set's folder in nnUNet_preprocessed; None if the split is nnU-Net's own or the user's.

    Raises:
        UserError: if the file is damaged.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    entries = read_json(path, RECORD, advice="make the splits again with nnunet-sfma splits --overwrite")
    known = {key: entries[key] for key in RECORD["required"]}
    return SplitRecord(**{**known, "notes": tuple(known["notes"]), "test": tuple(known["test"])})


def read_splits(path: Path) -> list[dict[str, list[str]]]:
    """A ``splits_final.json``.

    Raises:
        UserError: if it is not there or damaged.
    """
    missing = f"There is no {path}: nnU-Net writes it with the first fold, or nnunet-sfma splits does."
    return read_json(path, FOLDS, advice="restore it, or make the splits again", missing=missing)


def split_checksum(folds: list[dict[str, list[str]]], test: list[str]) -> str:
    """SHA-256 of folds and test cases, by which a report names the split that it used."""
    sorted_folds = [{side: sorted(fold[side]) for side in ("train", "val")} for fold in folds]
    return hashlib.sha256(json.dumps([sorted_folds, sorted(test)]).encode()).hexdigest()


def refuse_test_cases(cases: set[str], folder: Path, fold: int | str) -> None:
    """Keep a trainer from a fold with test cases, such as ``all``.

    Args:
        cases: training and validation cases of the fold.
        folder: the data set's folder in nnUNet_preprocessed.
        fold: for the message.

    Raises:
        UserError: if one of the cases is a test case.
    """
    record = read_split_record(folder)
    tested = sorted(cases & set(record.test)) if record else []
    if tested:
        raise UserError(
            f"Fold {fold} holds {len(tested)} test cases of the split in {folder / NAME} ({tested[0]}, ...): train a "
            "fold of splits_final.json, or remove both files if you want to train on the test cases."
        )
