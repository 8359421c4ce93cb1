"""Tests between the models, and the papers' tables with our lines below them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nnunet_sfma.departures import title
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.compare import BesidePublished, Comparison, Spread, compare
from nnunet_sfma.evaluation.comparison_text import how_tested
from nnunet_sfma.evaluation.published import Column as PublishedColumn
from nnunet_sfma.evaluation.significance import labels
from nnunet_sfma.evaluation.statistics import MEAN
from nnunet_sfma.reporting.models import MEAN_TITLE, Model
from nnunet_sfma.reporting.tables import MEAN_PARTS, Column, Table, decimals, interval, mean_over, p_value, words


@dataclass(frozen=True)
class ComparisonTables:
    """What the section on comparison shows.

    Attributes:
        refusal: why the models do not stand beside each other, if they do not.
        tables: the tests, the first published table and the protocol.
        more: further published tables.
    """

    refusal: str | None
    tables: tuple[Table, ...]
    more: tuple[Table, ...]


def compare_models(models: Sequence[Model]) -> ComparisonTables:
    """All models beside each other; where that is refused the complete ones, or else each of them alone."""
    try:
        return ComparisonTables(None, *_compare(models))
    except UserError as error:
        refusal = str(error) if len(models) > 1 else None
    complete = [model for model in models if model.averaged]
    if complete and len(complete) < len(models):
        others = compare_models(complete)
        return replace(others, refusal=" ".join(filter(None, (refusal, others.refusal))))
    alone = [_compare([model], f"-of-{model.number + 1}") for model in complete]
    return ComparisonTables(refusal, *(tuple(table for part in alone for table in part[kind]) for kind in (0, 1)))


def _compare(models: Sequence[Model], suffix: str = "") -> tuple[tuple[Table, ...], tuple[Table, ...]]:
    """The tables to show, and further published ones."""
    evaluations = [model.evaluation for model in models]
    names = dict(zip(labels(evaluations), (model.label for model in models), strict=True))
    comparison = compare(evaluations)
    published = [
        _published(beside, f"published-{number}{suffix}", list(names.values()))
        for number, beside in enumerate(comparison.published, 1)
    ]
    tests = [_tests(comparison, names)] if comparison.tests else []
    protocol = [_protocol(comparison, f"protocol{suffix}", list(names.values()))] if comparison.protocol else []
    departures = [_departures(comparison, f"departures{suffix}", names)] if comparison.departures else []
    return (*tests, *published[:1], *protocol, *departures), tuple(published[1:])


def _tests(comparison: Comparison, names: dict[str, str]) -> Table:
    titles = {metric["key"]: metric["title"] for metric in comparison.metrics}
    columns = (
        words("First"),
        words("Second"),
        words("Metric"),
        words("Class"),
        Column("n"),
        Column("p", p_value),
        Column("p (Holm)", p_value),
        Column("Median difference", decimals(4)),
        Column("Mean difference", decimals(4)),
        Column("95 % interval", interval(4), ("low", "high")),
        words("Note"),
    )
    rows = tuple(
        (
            names[test.a],
            names[test.b],
            titles[test.metric],
            MEAN_TITLE if test.class_name == MEAN else test.class_name,
            test.n,
            test.p,
            test.p_holm,
            test.median_difference,
            test.mean_difference,
            (test.low, test.high),
            test.note,
        )
        for test in comparison.tests
    )
    notes = (
        f"Differences are first − second. {how_tested(comparison.tests)} Holm's correction is over the pairs and "
        "classes of a metric.",
        *comparison.notes,
    )
    return Table("tests", "Paired tests between the models", columns, rows, notes, headers=4)


def _published(beside: BesidePublished, name: str, names: Sequence[str]) -> Table:
    table = beside.table
    columns = (words("Method"), words("Source"), *map(_published_column, table.columns))
    printed = [(row.method, "published", *((value, None, None, None) for value in row.values)) for row in table.rows]
    ours = [(label, "ours", *map(_parts, spreads)) for label, spreads in zip(names, beside.ours, strict=True)]
    remarks = [f"{row.method}: {remark}" for row in table.rows for remark in row.remarks]
    notes = (f"Published: {table.citation}.", *filter(None, [beside.note]), *table.remarks, *remarks)
    return Table(name, f"{table.name}: {table.title}", columns, tuple(printed + ours), notes, headers=2)


def _published_column(column: PublishedColumn) -> Column:
    return Column(column.title, mean_over(column.decimals), MEAN_PARTS)


def _parts(spread: Spread) -> tuple[float | None, float | None, int | None, int | None]:
    return spread.mean, spread.sd, spread.n, spread.of


def _protocol(comparison: Comparison, name: str, names: Sequence[str]) -> Table:
    columns = (words("What"), words("The paper"), words("Stated"), *map(words, names))
    rows = tuple(
        (line.title, line.published, "yes" if line.stated else "no", *line.ours) for line in comparison.protocol
    )
    return Table(name, "What the published numbers and ours rest on", columns, rows)


def _departures(comparison: Comparison, name: str, names: dict[str, str]) -> Table:
    columns = (words("Network"), words("Where"), *map(words, ("The paper", "Ours", "Why", "As printed", "Models")))
    rows = tuple(
        (
            title(entry.network),
            entry.where,
            entry.printed,
            entry.done,
            entry.why,
            entry.printed_form or ("not stated" if entry.kind == "open" else None),
            ", ".join(names[each] for each in departure.names),
        )
        for departure in comparison.departures
        for entry in [departure.entry]
    )
    return Table(name, "Where the networks depart from their papers, or decide what these leave open", columns, rows)
