"""Means over fewer cases than there are, and classes without a value: said wherever a mean is shown."""

from collections.abc import Iterator, Sequence

from nnunet_sfma.evaluation.statistics import MEAN
from nnunet_sfma.sentences import first_few

NOTE = "n: cases with a value, where not all have one; of a mean of classes, those of the class with the fewest."


def cases_behind(evaluation: dict, class_name: str, metric: str) -> int | None:
    """Return over how many cases a mean is; None where the metric is not there.

    For the mean of the classes it is the number of the class that has the fewest.
    """
    summary = evaluation["summary"]
    if class_name != MEAN:
        statistic = summary["classes"][class_name].get(metric)
        return None if statistic is None else statistic["n"]
    of_classes = "iou" if metric == "miou" else metric
    numbers = [metrics[of_classes]["n"] for metrics in summary["classes"].values() if of_classes in metrics]
    if metric in summary["mean"]:
        numbers.append(summary["mean"][metric]["n"])
    return min(numbers, default=None)


def fewer(n: int | None, of: int | None) -> str:
    """Return what stands behind a mean: " (n = 4)" if there are more cases than 4, else nothing.

    Example:
        >>> fewer(4, 8), fewer(8, 8)
        (' (n = 4)', '')
    """
    return "" if n is None or n == of else f" (n = {n})"


def what_is_missing(evaluation: dict) -> list[str]:
    """Return a sentence for each class without a value in any case, and in any case of a fold."""
    return [*_classes_without_value(evaluation), *_folds_without_value(evaluation)] if evaluation["summary"] else []


def over_different_cases(names: Sequence[str], evaluations: Sequence[dict], metrics: Sequence[dict]) -> list[str]:
    """Return a sentence for each class and number of cases in which the evaluations' means are over different cases.

    Args:
        names: of the evaluations.
        evaluations: of the same cases.
        metrics: entries of those that are shown.
    """
    different: dict[tuple, list[str]] = {}
    for class_name in evaluations[0]["dataset"]["classes"]:
        for metric in metrics:
            having = [_cases_with_value(evaluation, class_name, metric["key"]) for evaluation in evaluations]
            if any(each != having[0] for each in having):
                both = len(set.intersection(*having))
                different.setdefault((class_name, tuple(map(len, having)), both), []).append(metric["title"])
    total = len(evaluations[0]["cases"])
    return [
        f"The means of {_listed(titles)} of {class_name} are over different cases and say nothing about which model is "
        f"better: of {total} cases {_counted(names, numbers)} a value; {both} have one in all."
        for (class_name, numbers, both), titles in different.items()
    ]


def _counted(names: Sequence[str], numbers: Sequence[int]) -> str:
    return " and ".join(f"{number} of {name}" for name, number in zip(names, numbers, strict=True)) + " have"


def _cases_with_value(evaluation: dict, class_name: str, metric: str) -> set[str]:
    return {case["case"] for case in evaluation["cases"] if case["classes"][class_name].get(metric) is not None}


def _classes_without_value(evaluation: dict) -> Iterator[str]:
    titles = {entry["key"]: entry["title"] for entry in evaluation["metrics"]}
    for name, metrics in evaluation["summary"]["classes"].items():
        without = [titles.get(key, key) for key, statistic in metrics.items() if statistic["n"] == 0]
        if without:
            means = "; the means of the classes have none either" if len(evaluation["dataset"]["classes"]) > 1 else ""
            yield f"No case has a value of {_listed(without)} of {name}{means}."


def _folds_without_value(evaluation: dict) -> Iterator[str]:
    titles = {entry["key"]: entry["title"] for entry in evaluation["metrics"]}
    folds = sorted({case["fold"] for case in evaluation["cases"]} - {None})
    for name, metrics in evaluation["summary"]["classes"].items():
        without: dict[tuple, list[str]] = {}
        for key, statistic in metrics.items():
            empty = tuple(fold for fold, mean in zip(folds, statistic["folds"], strict=False) if mean is None)
            if empty and statistic["n"]:
                without.setdefault(empty, []).append(titles.get(key, key))
        for empty, of_metrics in without.items():
            number = f"fold {empty[0]}" if len(empty) == 1 else f"folds {first_few(list(map(str, empty)))}"
            yield f"No case of {number} has a value of {_listed(of_metrics)} of {name}, so no mean over folds is taken."


def _listed(titles: Sequence[str]) -> str:
    return first_few(list(titles), 20)
