"""The averages: a headline, a table as papers print it, and a long one with intervals and folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnunet_sfma.evaluation.fewer_cases import NOTE, what_is_missing
from nnunet_sfma.evaluation.significance import unit_of_pairs
from nnunet_sfma.evaluation.statistics import MEAN
from nnunet_sfma.reporting.models import (
    Model,
    all_metrics,
    digits_of,
    has_metric,
    metric_title,
    rows_of,
    with_unit,
)
from nnunet_sfma.reporting.tables import (
    MEAN_PARTS,
    Column,
    Table,
    decimals,
    fitting_digits,
    interval,
    mean_over,
    plus_minus,
    significant,
    words,
)

HEADLINE_KEYS = ("dice", "hd95", "lesion_f1", "object_f1", "nsd", "miou")
HEADLINES = 3


@dataclass(frozen=True)
class Headline:
    """One figure of a model in large letters, and what stands below it."""

    title: str
    value: str
    spread: str
    interval: str
    folds: str


def headlines(model: Model) -> list[Headline]:
    """The most asked-for figures of a model: means of the classes."""
    keys = [key for key in HEADLINE_KEYS if model.metric(key) and _measured(model.stat(MEAN, key))]
    return [
        _headline(model.metric(key), model.stat(MEAN, key), model.cases_behind(MEAN, key)) for key in keys[:HEADLINES]
    ]


def summary_table(models: Sequence[Model]) -> Table:
    """Mean ± standard deviation over cases: a row for each model and class, a column for each metric."""
    metrics = all_metrics(models)
    columns = [Column(metric_title(metric), mean_over(digits_of(metric)), MEAN_PARTS) for metric in metrics]
    rows = [
        (model.label, title, *(_mean_over(model, key, metric) for metric in metrics))
        for model in models
        for key, title in rows_of(model)
    ]
    return Table(
        "summary",
        "Mean ± standard deviation over cases",
        (words("Model"), words("Class"), *columns),
        tuple(rows),
        (*_conventions(models), NOTE, *_missing(models)),
        headers=2,
    )


def figures_table(models: Sequence[Model]) -> Table:
    """Everything about every average, one per row."""
    return Table(
        "all-figures",
        "Every average with its interval and its folds",
        (
            words("Model"),
            words("Class"),
            words("Metric"),
            Column("Cases", _fitting(plus_minus), ("mean", "sd")),
            Column("95 % interval", _fitting(interval), ("low", "high")),
            Column("n"),
            Column("Folds", _fitting(plus_minus), ("mean", "sd")),
            Column("Single folds"),
        ),
        tuple(
            (model.label, title, with_unit(metric), *_figures(model, key, metric["key"]))
            for model in models
            for key, title in rows_of(model)
            for metric in model.evaluation["metrics"]
            if _measured(model.stat(key, metric["key"]))
        ),
        (
            "Cases: mean ± standard deviation over cases. 95 % interval: of that mean, by bootstrap of "
            f"{_drawn(models)}. {NOTE} Folds: mean ± standard deviation of the means of the folds.",
        ),
        headers=3,
    )


def detection_table(models: Sequence[Model]) -> Table | None:
    """How many lesions were found, by size; None if nobody counted."""
    rows = [
        (
            model.label,
            name,
            f"{size_range(entry)} {entry['unit']}",
            entry["lesions"],
            entry["detected"],
            entry["detected"] / entry["lesions"],
        )
        for model in models
        for name, bins in (model.evaluation["detection_by_size"] or {}).items()
        for entry in bins
        if entry["lesions"]
    ]
    columns = (
        words("Model"),
        words("Class"),
        words("Size"),
        Column("Lesions"),
        Column("Found"),
        Column("Share", decimals(3)),
    )
    notes = ("A lesion is a connected component of the reference; it is found if any of its voxels is predicted.",)
    return Table("detection", "Detection by size", columns, tuple(rows), notes, headers=3) if rows else None


def size_range(entry: dict) -> str:
    """A bin of lesion sizes in words."""
    low, high = entry["from"], entry["to"]
    return f"over {significant(low)}" if high is None else f"{significant(low)} to {significant(high)}"


def _conventions(models: Sequence[Model]) -> list[str]:
    """One sentence if all models have the same, else one for each."""
    if len({model.evaluation["convention"] for model in models}) == 1:
        return [f"Conventions: {models[0].evaluation['convention']}."]
    return [f"Conventions of {model.label}: {model.evaluation['convention']}." for model in models]


def _measured(stat: dict | None) -> bool:
    return stat is not None and stat["mean"] is not None


def _headline(metric: dict, stat: dict, n: int) -> Headline:
    digits = digits_of(metric)
    show = decimals(digits)
    return Headline(
        title=metric["title"],
        value=f"{show(stat['mean'])} {metric['unit']}".strip(),
        spread="" if stat["sd"] is None else f"± {show(stat['sd'])} over {n} cases",
        interval="" if stat["low"] is None else f"95 % interval {interval(digits)(stat['low'], stat['high'])}",
        folds=f"folds {plus_minus(digits)(*_folds(stat))}" if _folds(stat) else "",
    )


def _missing(models: Sequence[Model]) -> list[str]:
    return [f"{model.label}: {sentence}" for model in models for sentence in what_is_missing(model.evaluation)]


def _drawn(models: Sequence[Model]) -> str:
    return " or ".join(dict.fromkeys(unit_of_pairs(model.evaluation) for model in models))


def _mean_over(model: Model, key: str, metric: dict) -> tuple | None:
    stat = model.stat(key, metric["key"]) if has_metric(model, metric) else None
    counted = model.cases_behind(key, metric["key"]), len(model.evaluation["cases"])
    return (stat["mean"], stat["sd"], *counted) if _measured(stat) else None


def _figures(model: Model, key: str, metric: str) -> tuple:
    stat = model.stat(key, metric)
    singles = [value for value in stat["folds"] if value is not None]
    return (
        (stat["mean"], stat["sd"]),
        (stat["low"], stat["high"]),
        model.cases_behind(key, metric),
        _folds(stat),
        ", ".join(decimals(fitting_digits(*singles))(value) for value in singles) or None,
    )


def _folds(stat: dict) -> tuple[float, float | None] | None:
    return None if stat["mean_of_folds"] is None else (stat["mean_of_folds"], stat["sd_of_folds"])


def _fitting(make: Callable[[int], Callable[[float, float], str]]) -> Callable[[float, float], str]:
    return lambda *values: make(fitting_digits(*values))(*values)
