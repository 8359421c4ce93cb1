"""``nnunet-sfma compare``: evaluations of ours beside the papers' tables, tests between ours, and what differs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from nnunet_sfma.departures import Departure, departures_of_evaluation
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.fewer_cases import cases_behind, over_different_cases, what_is_missing
from nnunet_sfma.evaluation.protocol import OURS, has_folds, spread_over
from nnunet_sfma.evaluation.published import Column, Table, published_releases, tables_for
from nnunet_sfma.evaluation.significance import PairedTest, labels, paired_tests, refuse_incomparable
from nnunet_sfma.evaluation.statistics import MEAN

TESTED = ("dice", "hd95")
"""What is tested where neither the user nor a table names metrics."""


@dataclass(frozen=True)
class Spread:
    """A mean with its standard deviation, over ``n`` of ``of`` cases; None where there is no value."""

    mean: float | None
    sd: float | None
    n: int | None = None
    of: int | None = None


NO_VALUE = Spread(None, None)


@dataclass(frozen=True)
class OurLine:
    """One evaluation in one class, or in the mean over classes: a spread for each metric shown."""

    name: str
    class_name: str
    spreads: tuple[Spread, ...]


@dataclass(frozen=True)
class BesidePublished:
    """A published table with a line of ours for each evaluation, in the table's columns and scale."""

    table: Table
    ours: tuple[tuple[Spread, ...], ...]
    note: str | None


@dataclass(frozen=True)
class ProtocolLine:
    """One item of the protocol: what the paper says, whether it states the matter, and what each evaluation did."""

    title: str
    stated: bool
    published: str
    ours: tuple[str, ...]


@dataclass(frozen=True)
class OurDeparture:
    """Where models of ours depart from their paper, or decide what it leaves open, and the names of these models."""

    entry: Departure
    names: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Evaluations side by side, and beside the published tables on their data set.

    Attributes:
        dataset: nnU-Net's name.
        release: the data set, as in ``nnunet-sfma convert``; None for one that no converter made.
        names: of the evaluations, in whose order everything else stands.
        spreads: over what each evaluation's means and standard deviations are.
        convention: of all evaluations.
        metrics: keys, titles and units of the metrics in ``ours``.
        ours: a line for each evaluation and, if there are several, each class.
        published: tables on the data set, the papers' comparison with other methods first.
        tests: between evaluations; empty for a single one.
        protocol: what the tables' numbers and ours rest on; empty without tables.
        departures: of the models from the words of their papers.
        notes: sentences on means over different cases, and on classes without a value.
    """

    dataset: str
    release: str | None
    names: tuple[str, ...]
    spreads: tuple[str, ...]
    convention: str
    metrics: tuple[dict, ...]
    ours: tuple[OurLine, ...]
    published: tuple[BesidePublished, ...]
    tests: tuple[PairedTest, ...]
    protocol: tuple[ProtocolLine, ...]
    departures: tuple[OurDeparture, ...]
    notes: tuple[str, ...]


def compare(evaluations: list[dict], release: str | None = None, metrics: list[str] | None = None) -> Comparison:
    """Put evaluations beside each other and beside the published tables on their data set.

    Args:
        evaluations: as from ``read_evaluation``, one or more.
        release: the published data set; None for the one that the evaluations name, if any.
        metrics: keys of metrics to show and to test; None shows all and tests those of the tables.

    Raises:
        UserError: if an evaluation is not complete, two cannot be compared, or a metric or release is unknown.
    """
    refuse_incomparable(evaluations)
    if release is not None and release not in published_releases():
        raise UserError(f"No paper covers the data set '{release}': choose one of {', '.join(published_releases())}.")
    release = release or next((each["dataset"]["release"] for each in evaluations if each["dataset"]["release"]), None)
    tables = tables_for(release) if release else []
    shown = _shown(evaluations, metrics)
    tested = [entry["key"] for entry in shown] if metrics else _tested([entry["key"] for entry in shown], tables)
    return Comparison(
        dataset=evaluations[0]["dataset"]["name"],
        release=release,
        names=tuple(labels(evaluations)),
        spreads=tuple(map(spread_over, evaluations)),
        convention=evaluations[0]["convention"],
        metrics=tuple(shown),
        ours=tuple(_our_lines(evaluations, [entry["key"] for entry in shown])),
        published=tuple(_beside(table, evaluations) for table in tables),
        tests=tuple(test for metric in tested for test in paired_tests(evaluations, metric)),
        protocol=_protocol(tables[0], evaluations) if tables else (),
        departures=_departures(evaluations),
        notes=tuple(_notes(evaluations, shown)),
    )


def to_json(comparison: Comparison) -> str:
    """The comparison as JSON."""
    return json.dumps(asdict(comparison), indent=2, ensure_ascii=False)


# Numbers of ours


def _notes(evaluations: Sequence[dict], shown: Sequence[dict]) -> Iterator[str]:
    names = labels(evaluations)
    yield from over_different_cases(names, evaluations, shown)
    for name, evaluation in zip(names, evaluations, strict=True):
        yield from (f"{name}: {sentence}" for sentence in what_is_missing(evaluation))


def _shown(evaluations: Sequence[dict], wanted: list[str] | None) -> list[dict]:
    """The metrics that all evaluations have, or those that the user wants."""
    common = [
        entry
        for entry in evaluations[0]["metrics"]
        if all(entry["key"] in {other["key"] for other in each["metrics"]} for each in evaluations)
    ]
    known = {entry["key"]: entry for entry in common}
    unknown = [key for key in wanted or [] if key not in known]
    if unknown:
        raise UserError(f"There is no metric '{unknown[0]}' in these evaluations: choose of {', '.join(known)}.")
    return [known[key] for key in dict.fromkeys(wanted)] if wanted else common


def _tested(shown: list[str], tables: list[Table]) -> list[str]:
    printed = [column.metric for table in tables for column in table.columns]
    return [key for key in shown if key in (printed or TESTED)]


def _our_lines(evaluations: Sequence[dict], metrics: list[str]) -> Iterator[OurLine]:
    classes = evaluations[0]["dataset"]["classes"]
    for class_name in [*(classes if len(classes) > 1 else []), MEAN]:
        for name, evaluation in zip(labels(evaluations), evaluations, strict=True):
            yield OurLine(name, class_name, tuple(_spread(evaluation, class_name, metric) for metric in metrics))


def _spread(evaluation: dict, class_name: str, metric: str) -> Spread:
    """Over folds if there are several, else over cases."""
    summary = evaluation["summary"]
    scores = summary["mean"] if class_name == MEAN else summary["classes"].get(class_name, {})
    statistic = scores.get(metric)
    if statistic is None:
        return NO_VALUE
    counted = cases_behind(evaluation, class_name, metric), len(evaluation["cases"])
    if has_folds(evaluation):
        return Spread(statistic["mean_of_folds"], statistic["sd_of_folds"], *counted)
    return Spread(statistic["mean"], statistic["sd"], *counted)


# Published tables


def _beside(table: Table, evaluations: Sequence[dict]) -> BesidePublished:
    classes = evaluations[0]["dataset"]["classes"]
    ours = tuple(tuple(_cell(column, table, each) for column in table.columns) for each in evaluations)
    note = None
    if not _same_classes(table, classes):
        note = f"Our means stay empty: they are over {', '.join(classes)}, the table's over {', '.join(table.classes)}."
    return BesidePublished(table, ours, note)


def _same_classes(table: Table, classes: list[str]) -> bool:
    """A single class is the same under any name."""
    return set(classes) == set(table.classes) or len(classes) == len(table.classes) == 1


def _cell(column: Column, table: Table, evaluation: dict) -> Spread:
    whole = column.class_name is None
    if column.metric is None or (whole and not _same_classes(table, evaluation["dataset"]["classes"])):
        return NO_VALUE
    spread = _spread(evaluation, MEAN if whole else column.class_name, column.metric)
    scaled = (None if value is None else value * column.scale for value in (spread.mean, spread.sd))
    return Spread(*scaled, spread.n, spread.of)


def _protocol(table: Table, evaluations: Sequence[dict]) -> tuple[ProtocolLine, ...]:
    return tuple(
        ProtocolLine(item.title, item.stated, item.text, tuple(OURS[item.key](each) for each in evaluations))
        for item in table.protocol
    )


def _departures(evaluations: Sequence[dict]) -> tuple[OurDeparture, ...]:
    of_each = dict(zip(labels(evaluations), map(departures_of_evaluation, evaluations), strict=True))
    found = {(entry.network, entry.key): entry for entries in of_each.values() for entry in entries}
    return tuple(
        OurDeparture(entry, tuple(name for name, entries in of_each.items() if entry in entries))
        for entry in found.values()
    )
