"""Refuses results that belong to another split or to other plans than those that are there now."""

from collections.abc import Sequence
from pathlib import Path

from nnunet_sfma.crossval.folds import Fold
from nnunet_sfma.crossval.models import Model, split_of
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.fold_stage import is_begun
from nnunet_sfma.nnunet_files import read_plans
from nnunet_sfma.sentences import first_few
from nnunet_sfma.split_record import read_splits, split_checksum
from nnunet_sfma.trainers.changed_plans import changes_between, describe
from nnunet_sfma.trainers.checkpoints import newest_facts
from nnunet_sfma.trainers.trained_on import kept_cases, refuse_another_split, refuse_other_validation


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
        facts = {fold: newest_facts(_folder(model, fold)) for fold in folds if is_begun(_folder(model, fold))}
        for fold, known in facts.items():
            _refuse_other_cases(model, fold, known)
            if plans := _plans_of(known):
                _refuse_changes(_folder(model, fold), plans, model)
        # a checkpoint that cannot be read will be set aside, and not every one tells of split and plans
        without_cases = [fold for fold, known in facts.items() if kept_cases(known) is None]
        if without_cases:
            _refuse_another_split(model, without_cases)
        if not all(_plans_of(known) for known in facts.values()):
            _refuse_other_plans(model)
        if facts and (model.folder / "plans.json").is_file():
            _refuse_changes(model.folder / "plans.json", read_plans(model.folder / "plans.json"), model)


def refuse_postprocessing_of_another_split(model: Model, folds: Sequence[int | str], ending: str) -> None:
    """Refuse a post-processing that was chosen on validations of cases on which the folds were trained.

    Raises:
        UserError: if a fold's validation holds cases that it was not meant to validate; the sentence names them.
    """
    for fold in folds:
        folder = _folder(model, fold)
        refuse_other_validation(folder, kept_cases(newest_facts(folder)), _validated(folder, ending))


def _validated(folder: Path, ending: str) -> list[str]:
    return [path.name.removesuffix(ending) for path in (folder / "validation").glob(f"*{ending}")]


def _folder(model: Model, fold: int | str) -> Path:
    return model.folder / f"fold_{fold}"


def _plans_of(facts: dict | None) -> dict | None:
    return facts.get("init_args", {}).get("plans") if facts else None


def _refuse_other_cases(model: Model, fold: int, facts: dict | None) -> None:
    folder, split = _folder(model, fold), split_of(model)[fold]
    kept = kept_cases(facts)
    refuse_another_split(folder, kept, split["train"], split["val"])
    if (folder / "validation" / "summary.json").is_file():
        refuse_other_validation(folder, kept, _validated(folder, Fold(model, fold).ending))


def _refuse_changes(where: Path, then: dict, model: Model) -> None:
    if not model.is_preprocessed:
        return
    changes = changes_between(then, read_plans(model.preprocessed / f"{model.plans}.json"), model.configuration)
    if changes:
        raise UserError(
            f"{where} is of other plans than {model.plans} holds now ({describe(changes)}): restore the plans, give "
            "the new ones another name, or continue the folds with nnUNetv2_train --c if only the recipe differs."
        )


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
    then, now = (read_plans(path)["configurations"].get(model.configuration, {}) for path in paths)
    different = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    if different:
        raise UserError(
            f"Folds of {model.folder} were trained with other plans than {model.plans} holds now "
            f"({first_few(different)}): give the new plans another name, or move the folder away and train again."
        )
