"""Folds of a split that can be trained, told from those for which nnU-Net would draw cases of its own or fail."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import first_few
from nnunet_sfma.split_record import SPLITS_FILE, read_split_record, read_splits

DRAWN_FOLDS = 5
SIDES = {"train": "train on", "val": "validate on"}


def preprocessed_cases(folder: Path) -> list[str]:
    """Return the identifiers of a configuration's preprocessed cases, in nnU-Net's order.

    Raises:
        UserError: if there is no preprocessed data.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    try:
        return sorted(infer_dataset_class(str(folder)).get_identifiers(str(folder)))
    except (OSError, AssertionError, KeyError):  # no folder, or not the files of exactly one kind of data set
        raise UserError(
            f"{folder} holds no preprocessed data, or other files among it: run nnUNetv2_preprocess again."
        ) from None


def refuse_unusable_folds(preprocessed: Path, cases: Collection[str], folds: Sequence[int]) -> None:
    """Refuse folds that the split does not have or that cannot be trained as they are written there.

    nnU-Net trains a fold that ``splits_final.json`` lacks on 80 % of the cases, drawn without regard to subjects, and
    ends in a stack trace for most other faults. Without the file it draws five folds.

    Args:
        preprocessed: the data set's folder in nnUNet_preprocessed.
        cases: that are preprocessed.
        folds: numbers of those that are to be trained.

    Raises:
        UserError: if there is no such fold, one of its sides is empty or names a case that is not preprocessed, both
            sides name the same case, or there are too few cases to draw folds from.
    """
    path = preprocessed / SPLITS_FILE
    split = read_splits(path) if path.is_file() else None
    number = DRAWN_FOLDS if split is None else len(split)
    if split is None and len(cases) < DRAWN_FOLDS:
        raise UserError(
            f"{preprocessed} has {len(cases)} preprocessed cases, and nnU-Net draws five folds: write a {SPLITS_FILE} "
            "by hand, or train fold all."
        )
    unknown = [fold for fold in folds if not 0 <= fold < number]
    if unknown:
        there = "fold 0" if number == 1 else f"folds 0 to {number - 1}"
        raise UserError(f"The split in {preprocessed} has no fold {unknown[0]}: train {there}.")
    for fold in folds if split else ():
        _refuse_unusable(f"Fold {fold} of {path}", split[fold], set(cases), _may_validate_on_training(preprocessed))


def _refuse_unusable(fold: str, sides: dict[str, list[str]], cases: set[str], may_validate_on_training: bool) -> None:
    for side, purpose in SIDES.items():
        names = sides[side]
        if not names:
            raise UserError(f"{fold} has no cases to {purpose}: list some under '{side}'.")
        unknown = [name for name in names if name not in cases]
        if unknown:
            raise UserError(
                f"{fold} names {len(unknown)} of its {len(names)} cases under '{side}' that are not preprocessed "
                f"({first_few(unknown)}): {_advice(unknown[0], cases)}."
            )
    both = sorted({*sides["train"]} & {*sides["val"]})
    if both and not (may_validate_on_training and sorted(sides["train"]) == sorted(sides["val"])):
        raise UserError(f"{fold} trains and validates on the same cases ({first_few(both)}): keep each on one side.")


def _advice(name: str, cases: set[str]) -> str:
    """What to do about a name that is not a case's: often it is a file's."""
    case = re.sub(r"(_\d{4})?(\.[A-Za-z0-9]+)*$", "", name)
    if case in cases:
        return f"name cases without channel and file ending, such as {case}"
    return "correct the names, or preprocess the cases that are missing"


def _may_validate_on_training(preprocessed: Path) -> bool:
    """Some papers' divisions have no validation set; ``nnunet-sfma splits`` says so when it writes them."""
    record = read_split_record(preprocessed)
    return record is not None and record.scheme == "paper"
