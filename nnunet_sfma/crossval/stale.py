"""Refuses results that belong to another split or to other plans than those that are there now."""

from collections.abc import Sequence

from nnunet_sfma.crossval.models import Model, split_of
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.sources import read_plans
from nnunet_sfma.sentences import first_few
from nnunet_sfma.split_record import read_splits, split_checksum

COMPLETED = ("architecture", "training")


def refuse_stale(models: Sequence[Model]) -> None:
    """Refuse to go on with folds that were trained on something else: a fold counts as finished by its files alone.

    Raises:
        UserError: if a model's plans or the split were changed since, or the split validates a case twice.
    """
    _refuse_validated_twice(models[0])
    for model in models:
        if any(model.folder.glob("fold_*/checkpoint_*.pth")):
            _refuse_another_split(model)
            _refuse_other_plans(model)


def _refuse_validated_twice(model: Model) -> None:
    seen = set()
    for number, fold in enumerate(split_of(model)):
        twice = sorted(seen & set(fold["val"]))
        if twice:
            raise UserError(
                f"{twice[0]} is validated in fold {number} and in an earlier one: only folds that validate each case "
                "once can be brought together."
            )
        seen |= set(fold["val"])


def _refuse_another_split(model: Model) -> None:
    if model.split_copy.is_file() and _checksum(read_splits(model.split_copy)) != _checksum(split_of(model)):
        raise UserError(
            f"The split was changed since folds of {model.folder} were trained (their split is {model.split_copy}): "
            "restore it, or move the folder away and train again."
        )


def _refuse_other_plans(model: Model) -> None:
    """nnU-Net's own plans are completed by the trainer, so what it added has nothing to be compared with."""
    if not (model.folder / "plans.json").is_file():
        return
    trained, now = (
        read_plans(path)["configurations"].get(model.configuration, {})
        for path in (model.folder / "plans.json", model.preprocessed / f"{model.plans}.json")
    )
    keys = [key for key in now if key not in COMPLETED or "training" in now]
    different = [key for key in keys if trained.get(key) != now[key]]
    if different:
        raise UserError(
            f"Folds of {model.folder} were trained with other plans than {model.plans} holds now "
            f"({first_few(different)}): give the new plans another name, or move the folder away and train again."
        )


def _checksum(split: list[dict]) -> str:
    return split_checksum(split, [])
