"""Numbers of all cases together, class by class and over the classes, under given conventions."""

from collections.abc import Sequence

import numpy as np

from nnunet_sfma.evaluation.conventions import Conventions
from nnunet_sfma.evaluation.metrics import class_metrics, harmonic, ious
from nnunet_sfma.evaluation.statistics import describe


def summarise(
    measured: Sequence[dict],
    metrics: Sequence[str],
    conventions: Conventions,
    folds: Sequence[int | None],
    subjects: Sequence[str],
) -> dict:
    """``classes`` by name and ``mean`` over the classes, each with :func:`describe`'s numbers for each metric.

    Args:
        measured: of each case, by :func:`nnunet_sfma.evaluation.measure.measure_case`.
        metrics: keys; "miou" is one of the mean only.
        conventions: of empty masks and means.
        folds: of each case.
        subjects: of each case, or the cases themselves unless all subjects are known.
    """
    names = list(measured[0]["classes"])
    computed = [{name: class_metrics(case["classes"][name], conventions) for name in names} for case in measured]

    def of_classes(chosen: list[str], key: str) -> dict:
        cells = [[(case[name][0].get(key), case[name][1].get(key, 1)) for name in chosen] for case in computed]
        return _describe(cells, folds, subjects)

    summary = {
        "classes": {name: {key: of_classes([name], key) for key in metrics if key != "miou"} for name in names},
        "mean": {key: of_classes(names, key) for key in metrics if key != "miou"},
    }
    if "miou" in metrics:
        summary["mean"]["miou"] = _describe([ious(case, conventions) for case in measured], folds, subjects)
    if conventions.f1 == "f1-of-means":
        for of_one in summary["classes"].values():
            of_one["f1"] = _f1_of_means(of_one)
        summary["mean"]["f1"] = mean_of_classes([of_one["f1"] for of_one in summary["classes"].values()])
    return summary


def _describe(
    cells: list[list[tuple[float | None, int]]], folds: Sequence[int | None], subjects: Sequence[str]
) -> dict:
    values = np.array([[value for value, _ in row] for row in cells], dtype=float)
    items = np.array([[number for _, number in row] for row in cells], dtype=float)
    return describe(values, items, folds, subjects)


def _f1_of_means(metrics: dict) -> dict:
    """F1 of mean precision and mean recall; it has no deviation over cases."""
    precision, recall = metrics["precision"], metrics["recall"]
    folds = [harmonic(*pair) for pair in zip(precision["folds"], recall["folds"], strict=True)]
    return _without_deviation(harmonic(precision["mean"], recall["mean"]), min(precision["n"], recall["n"]), folds)


def mean_of_classes(of_classes: Sequence[dict]) -> dict:
    """Return the mean of the classes' F1, as every other mean over classes; none if a class has none."""
    folds = [_whole_mean(of_fold) for of_fold in zip(*(each["folds"] for each in of_classes), strict=True)]
    mean = _whole_mean([each["mean"] for each in of_classes])
    return _without_deviation(mean, min(each["n"] for each in of_classes), folds)


def _whole_mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _without_deviation(mean: float | None, n: int, folds: list[float | None]) -> dict:
    whole = folds if None not in folds else []
    return {
        "mean": mean,
        "sd": None,
        "n": n,
        "low": None,
        "high": None,
        "folds": folds,
        "mean_of_folds": float(np.mean(whole)) if whole else None,
        "sd_of_folds": float(np.std(whole, ddof=1)) if len(whole) > 1 else None,
    }
