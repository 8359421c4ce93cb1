"""``python -m nnunet_sfma.crossval.ensembles``: the best of several models and of their pairs.

It is ``nnUNetv2_find_best_configuration`` for models that each have plans of their own; the command takes all trainers
times all plans, nnU-Net's function takes any models.
"""

import os
import shutil
from collections.abc import Sequence
from itertools import combinations

from nnunetv2.utilities.file_path_utilities import get_ensemble_name

from nnunet_sfma.crossval.folds import Fold
from nnunet_sfma.crossval.job_log import as_typed
from nnunet_sfma.crossval.lock import locked
from nnunet_sfma.crossval.models import Model, find_models
from nnunet_sfma.crossval.results import Accumulation
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.fold_stage import Stage
from nnunet_sfma.standard_argparse import argparse


def find_best(models: Sequence[Model], folds: Sequence[int], processes: int) -> dict:
    """Ensemble all pairs, and choose the best model or pair and its post-processing.

    Args:
        models: cross-validated with their probabilities.
        folds: of each model.
        processes: for what is done to cases.

    Returns:
        What nnU-Net's ``find_best_configuration`` returns, and writes to ``inference_information.json``.

    Raises:
        UserError: if a model's folds are not finished and brought together, or somebody else works on them.
    """
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration

    with locked(models, command(models, folds)):
        for model in models:
            _refuse_unfinished(model, folds, processes)
        for first, second in combinations(models, 2):
            name = get_ensemble_name(str(first.folder), str(second.folder), tuple(folds))
            shutil.rmtree(first.folder.parent / "ensembles" / name, ignore_errors=True)  # of other predictions, maybe
        trained = [
            {"trainer": model.trainer, "plans": model.plans, "configuration": model.configuration} for model in models
        ]
        # what is brought together stays: nnU-Net would remove the post-processing of all models but the best
        return find_best_configuration(models[0].dataset, tuple(trained), True, processes, False, tuple(folds))


def command(models: Sequence[Model], folds: Sequence[int]) -> str:
    """The command that does it, as one would type it."""
    trainers, plans = ([getattr(model, key) for model in models] for key in ("trainer", "plans"))
    which = ["-d", models[0].dataset_id, "-c", models[0].configuration, "-tr", *trainers, "-p", *plans]
    return as_typed(["python", "-m", "nnunet_sfma.crossval.ensembles", *which, "-f", *map(str, folds)], {})


def _refuse_unfinished(model: Model, folds: Sequence[int], processes: int) -> None:
    unfinished = [fold for fold in folds if Fold(model, fold, npz=True).stage != Stage.FINISHED]
    if unfinished or Accumulation(model, tuple(folds), processes).commands():
        which = ["-d", model.dataset_id, "-c", model.configuration, *model.options, "--npz"]
        raise UserError(
            f"{model.trainer} {model.plans} is not finished, or lacks the validation's probabilities: give "
            f"{as_typed(['nnunet-sfma', 'crossval', *which], {})} first."
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; what the user can put right ends in one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m nnunet_sfma.crossval.ensembles", description=__doc__)
    parser.add_argument("-d", dest="dataset", required=True, help="id or name of a data set")
    parser.add_argument("-tr", dest="trainers", nargs="+", required=True, help="one per model, or one for all")
    parser.add_argument("-p", dest="plans", nargs="+", required=True, help="one per model, or one for all")
    parser.add_argument("-c", dest="configuration", default="2d", help="configuration (2d)")
    parser.add_argument("-f", dest="folds", nargs="+", type=int, default=list(range(5)), help="folds (0 1 2 3 4)")
    parser.add_argument("-np", dest="processes", type=int, default=min(8, os.cpu_count() or 1), help="processes")
    args = parser.parse_args(argv)
    models = find_models(args.dataset, args.trainers, args.plans, args.configuration)
    if len(models) < 2:
        raise UserError("An ensemble needs two models: name several with -tr and -p.")
    find_best(models, sorted(set(args.folds)), args.processes)


if __name__ == "__main__":
    main()
