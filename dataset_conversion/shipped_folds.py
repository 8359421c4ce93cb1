"""Folds that a conversion writes itself: where nnU-Net's own, five drawn by case, would not do."""

import json
import os
from pathlib import Path

from dataset_conversion.folds import N_FOLDS, five_folds
from dataset_conversion.raw_dataset import read_raw_dataset
from nnunet_sfma.split_record import SPLITS_FILE


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
    preprocessed = os.environ.get("nnUNet_preprocessed")
    if preprocessed and Path(preprocessed, name, SPLITS_FILE).is_file():
        return [
            f"The splits of {name} in {preprocessed} stay as they are; see nnunet-sfma splits -d {name[7:10]} --check."
        ]
    training = read_raw_dataset(folder).training
    n_subjects = len({member.subject for member in training})
    if n_subjects == 1:
        return [
            f"All {len(training)} training cases show one subject: any folds have it on both sides, and validation "
            "scores are too good; convert more of the release."
        ]
    n_folds = min(n_subjects, N_FOLDS)
    if n_subjects < max(len(training), N_FOLDS):
        folds = five_folds(training, n_folds=n_folds)
        (folder / SPLITS_FILE).write_text(json.dumps(folds, indent=2) + "\n")
    if n_folds == N_FOLDS:
        return []
    return [
        f"{n_subjects} subjects are too few for five folds: {SPLITS_FILE} holds {n_folds}, by subject; train folds 0 "
        f"to {n_folds - 1}."
    ]
