"""The models that stand on one page: those of a call, and all others of the data set that can be compared with them."""

import contextlib
from collections.abc import Sequence

from nnunet_sfma.crossval.models import Model
from nnunet_sfma.crossval.results import evaluation_folder
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.evaluation_file import NAME, read_evaluation
from nnunet_sfma.evaluation.significance import refuse_incomparable


def on_one_page(models: Sequence[Model]) -> list[Model]:
    """The models, followed by the evaluated ones of their data set that differ in nothing but the model.

    Args:
        models: of one data set; without the evaluation of the first nothing can be compared.
    """
    with contextlib.suppress(UserError):
        first = read_evaluation(evaluation_folder(models[0]))
        others = [model for model in _evaluated(models[0]) if model not in models]
        return [*models, *(model for model in others if _is_comparable(first, model))]
    return list(models)


def _evaluated(like: Model) -> list[Model]:
    """All models of the data set that have an evaluation, by name."""
    folders = sorted(path.parents[1] for path in like.folder.parent.glob(f"*__*__*/evaluation/{NAME}"))
    return [Model(like.dataset, *folder.name.split("__")) for folder in folders if folder.name.count("__") == 2]


def _is_comparable(evaluation: dict, model: Model) -> bool:
    try:
        refuse_incomparable([evaluation, read_evaluation(evaluation_folder(model))])
    except UserError:  # unfinished, damaged, or of other cases, folds, split or conventions
        return False
    return True
