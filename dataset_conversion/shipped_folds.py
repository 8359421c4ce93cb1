"""Folds that a conversion writes itself: where nnU-Net's own, five drawn by case, would not do."""

import json
import os
from pathlib import Path

from dataset_conversion.folds import (
    N_FOLDS,
    Fold,
    five_folds,
    number_of_subjects,
    on_fewer_folds,
    unbalanced_folds,
)
from dataset_conversion.raw_dataset import Member, read_as_converted, read_raw_dataset
from nnunet_sfma.split_record import SPLITS_FILE, split_checksum


def write_folds(folder: Path, name: str) -> list[str]:
    """Write folds by subject to the place from which nnU-Net's planner takes them, if subjects have several cases or
    are fewer than five.

    Splits that are in nnUNet_preprocessed for this data set stay: models may be trained on them.

    Args:
        folder: of the data set while it is written.
        name: the data set's, ``DatasetXXX_Name``.

    Returns:
        What the user should know of the folds, a sentence each.
    """
    if _splits_in_use(name):
        return [
            f"The splits of {name} in {os.environ['nnUNet_preprocessed']} stay as they are; see nnunet-sfma splits "
            f"-d {name[7:10]} --check."
        ]
    training = read_raw_dataset(folder).training
    if number_of_subjects(training) == 1:
        return [
            f"All {len(training)} training cases show one subject: any folds have it on both sides, and validation "
            "scores are too good; convert more of the release."
        ]
    folds = _folds(training)
    if not folds:
        return []
    (folder / SPLITS_FILE).write_text(json.dumps(folds, indent=2) + "\n")
    _remember(folder, folds)
    return on_fewer_folds(len(folds))


def _remember(folder: Path, folds: list[Fold]) -> None:
    path = folder / "provenance.json"
    entries = {**json.loads(path.read_text(encoding="utf-8")), "folds_sha256": split_checksum(folds, [])}
    path.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def were_shipped(folds: list[Fold], folder: Path) -> bool:
    """Return whether folds are those that the conversion of a data set shipped.

    Earlier versions did not note them: then they are what those versions dealt to the subjects of the release.

    Args:
        folder: of the data set.
    """
    raw = read_as_converted(folder)
    if raw.folds_sha256:
        return split_checksum(folds, []) == raw.folds_sha256
    if not raw.subjects_known or number_of_subjects(raw.training) == 1:
        return False
    return folds in (five_folds(raw.training), unbalanced_folds(raw.training))


def folds_are_missing(folder: Path) -> bool:
    """Return whether a data set lacks the folds that a conversion ships, so that nnU-Net would draw its own by case."""
    if (folder / SPLITS_FILE).is_file() or _splits_in_use(folder.name):
        return False
    raw = read_raw_dataset(folder)
    return bool(raw.folds_sha256 or _folds(raw.training))


def _splits_in_use(name: str) -> bool:
    preprocessed = os.environ.get("nnUNet_preprocessed")
    return bool(preprocessed) and Path(preprocessed, name, SPLITS_FILE).is_file()


def _folds(training: list[Member]) -> list[Fold]:
    """Folds by subject; none where nnU-Net's own would do, or where one subject leaves nothing to divide."""
    n_subjects = number_of_subjects(training)
    alone = n_subjects == len(training) >= N_FOLDS
    return [] if alone or n_subjects == 1 else five_folds(training)
