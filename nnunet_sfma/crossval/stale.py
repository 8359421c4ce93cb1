"""Refuses results that belong to another split or to other plans than those that are there now."""

import json
from collections.abc import Sequence

from nnunet_sfma.crossval.models import Model, split_of
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.fold_stage import CHECKPOINTS
from nnunet_sfma.sentences import first_few
from nnunet_sfma.split_record import read_splits, split_checksum


def refuse_stale(models: Sequence[Model], folds: Sequence[int]) -> None:
    """Refuse to go on with folds that were trained on something else: a fold counts as finished by its files alone.

    Args:
        models: whose folds they are.
        folds: of the split.

    Raises:
        UserError: if a model's plans or the split were changed since, or the folds validate a case twice.
    """
    _refuse_validated_twice(models[0], folds)
    for model in models:
        trained = [fold for fold in folds if _is_begun(model, fold)]
        if trained:
            _refuse_another_split(model, trained)
            _refuse_other_plans(model)


def _is_begun(model: Model, fold: int) -> bool:
    return any((model.folder / f"fold_{fold}" / name).is_file() for name in CHECKPOINTS)


def _refuse_validated_twice(model: Model, folds: Sequence[int]) -> None:
    split, validated_in = split_of(model), {}
    for fold in folds:
        for case in split[fold]["val"]:
            if case in validated_in:
                raise UserError(
                    f"{case} is validated in fold {validated_in[case]} and in fold {fold}: only folds that validate "
                    "each case once can be brought together; choose them with --folds."
                )
            validated_in[case] = fold


def _refuse_another_split(model: Model, folds: Sequence[int]) -> None:
    if not model.split_copy.is_file():
        return
    then, now = ([split[fold] for fold in folds if fold < len(split)] for split in _both_splits(model))
    if split_checksum(then, []) != split_checksum(now, []):
        raise UserError(
            f"The split was changed since folds of {model.folder} were trained (their split is {model.split_copy}): "
            "restore it, or move the folder away and train again."
        )


def _both_splits(model: Model) -> tuple[list[dict], list[dict]]:
    return read_splits(model.split_copy), split_of(model)


def _refuse_other_plans(model: Model) -> None:
    if not model.plans_copy.is_file():
        return
    paths = (model.plans_copy, model.preprocessed / f"{model.plans}.json")
    then, now = (json.loads(path.read_text())["configurations"].get(model.configuration, {}) for path in paths)
    different = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    if different:
        raise UserError(
            f"Folds of {model.folder} were trained with other plans than {model.plans} holds now "
            f"({first_few(different)}): give the new plans another name, or move the folder away and train again."
        )
