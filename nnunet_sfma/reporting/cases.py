"""Single cases: their table, and which of them are worth looking at."""

from collections.abc import Sequence
from statistics import median_low

from nnunet_sfma.evaluation.statistics import MEAN
from nnunet_sfma.reporting.models import Model, all_metrics, digits_of, has_metric, metric_title, rows_of
from nnunet_sfma.reporting.tables import Column, Table, decimals, significant, words


def case_table(models: Sequence[Model]) -> Table:
    """A row for each case and class, in the order of the evaluations."""
    metrics = all_metrics(models)
    unit = models[0].evaluation["dataset"]["volume_unit"]
    rows = [
        _row(model, case, key, title, metrics)
        for model in models
        for case in model.evaluation["cases"]
        for key, title in rows_of(model)
    ]
    return Table(
        "cases",
        "All cases",
        (
            words("Model"),
            words("Case"),
            words("Class"),
            Column("Fold"),
            *(Column(metric_title(metric), decimals(digits_of(metric))) for metric in metrics),
            Column(f"Reference ({unit})", significant),
            Column(f"Prediction ({unit})", significant),
        ),
        tuple(rows),
        headers=3,
    )


def typical_cases(model: Model) -> list[tuple[str, dict]]:
    """The cases of best, median and worst Dice with these words; fewer if there are fewer cases."""
    ranked = sorted((case for case in model.evaluation["cases"] if dice_of(case) is not None), key=dice_of)
    if not ranked:
        return []
    chosen = {"Best": len(ranked) - 1, "Median": median_low(range(len(ranked))), "Worst": 0}
    extremes = {len(ranked) - 1, 0}
    return [
        (word, ranked[place])
        for word, place in chosen.items()
        if word == "Best" or (word == "Worst" and len(ranked) > 1) or place not in extremes
    ]


def dice_of(case: dict) -> float | None:
    """Dice of a case, the mean of its classes."""
    return case["mean"].get("dice")


def _row(model: Model, case: dict, key: str, title: str, metrics: Sequence[dict]) -> tuple:
    only = next(iter(case["classes"].values())) if len(case["classes"]) == 1 else {}
    values = {**only, **case["mean"]} if key == MEAN else case["classes"][key]
    return (
        model.label,
        case["case"],
        title,
        case["fold"],
        *(values.get(metric["key"]) if has_metric(model, metric) else None for metric in metrics),
        values.get("volume_reference"),
        values.get("volume_prediction"),
    )
