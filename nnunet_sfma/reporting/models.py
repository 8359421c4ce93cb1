"""The evaluations of a report, with what tables and figures need to tell them apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_sfma.evaluation.fewer_cases import cases_behind
from nnunet_sfma.evaluation.statistics import MEAN

SEPARATOR = " / "
MEAN_TITLE = "Mean of classes"


@dataclass(frozen=True)
class Model:
    """One evaluation.

    Attributes:
        number: its place in the report, from 0, which is its colour and marker.
        label: how it is called here; unique in the report.
        evaluation: as read from evaluation.json.
    """

    number: int
    label: str
    evaluation: dict

    @property
    def averaged(self) -> bool:
        """Whether all of its cases are there."""
        return self.evaluation["summary"] is not None

    @property
    def classes(self) -> list[str]:
        return self.evaluation["dataset"]["classes"]

    def metric(self, key: str) -> dict | None:
        """A metric's entry, if it was measured."""
        return next((metric for metric in self.evaluation["metrics"] if metric["key"] == key), None)

    def stat(self, name: str, key: str) -> dict | None:
        """Mean, spread and interval of a metric for a class or for the mean of the classes."""
        summary = self.evaluation["summary"]
        return (summary["mean"] if name == MEAN else summary["classes"][name]).get(key)

    def cases_behind(self, name: str, key: str) -> int | None:
        """Over how many cases a mean is; for the mean of the classes that of the class with the fewest."""
        return cases_behind(self.evaluation, name, key)


def name_models(evaluations: Sequence[dict]) -> list[Model]:
    """The evaluations, numbered, with short names: without what all share and without nnU-Net's prefix of trainers.

    Those of one name get a number behind it.
    """
    # what all share is left out of the names, so the data set only stands there if there are several
    parts = [[evaluation["dataset"]["name"], *evaluation["name"].split(SEPARATOR)] for evaluation in evaluations]
    if len({of_one[0] for of_one in parts}) == 1:
        parts = [of_one[1:] for of_one in parts]
    labels = [_short(own, parts) for own in parts]
    return [
        Model(number, f"{label} ({labels[:number].count(label) + 1})" if labels.count(label) > 1 else label, evaluation)
        for number, (label, evaluation) in enumerate(zip(labels, evaluations, strict=True))
    ]


def _short(own: Sequence[str], everybody: Sequence[Sequence[str]]) -> str:
    shared = set.intersection(*map(set, everybody)) if len(everybody) > 1 else set()
    kept = [part for part in own if part not in shared] or own
    return SEPARATOR.join(part.removeprefix("nnUNetTrainer") or "nnU-Net" for part in kept)


def all_classes(models: Sequence[Model]) -> list[str]:
    """The classes of all models, each once."""
    return list(dict.fromkeys(name for model in models for name in model.classes))


def all_metrics(models: Sequence[Model]) -> list[dict]:
    """The metrics of all models; one key in two units is two metrics."""
    metrics = {(metric["key"], metric["unit"]): metric for model in models for metric in model.evaluation["metrics"]}
    return list(metrics.values())


def rows_of(model: Model) -> list[tuple[str, str]]:
    """The rows of a model as (key, title): the mean of the classes, then each; a single class stands alone."""
    if len(model.classes) == 1:
        return [(MEAN, model.classes[0])]
    return [(MEAN, MEAN_TITLE), *((name, name) for name in model.classes)]


def has_metric(model: Model, metric: dict) -> bool:
    """Whether a model was measured by this metric, in its unit."""
    own = model.metric(metric["key"])
    return own is not None and own["unit"] == metric["unit"]


def with_unit(metric: dict) -> str:
    """A metric's title with its unit."""
    return f"{metric['title']} ({metric['unit']})" if metric["unit"] else metric["title"]


def metric_title(metric: dict) -> str:
    """A metric's title with unit and an arrow to the better side."""
    arrow = {"higher": " ↑", "lower": " ↓"}.get(metric["better"], "")
    return with_unit(metric) + arrow


def digits_of(metric: dict) -> int:
    """Decimals that are worth reading."""
    return 2 if metric["unit"] else 3
