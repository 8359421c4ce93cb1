"""A comparison as Markdown, for people."""

from collections.abc import Iterable, Sequence

from nnunet_sfma.departures import title
from nnunet_sfma.evaluation.compare import BesidePublished, Comparison, Spread
from nnunet_sfma.evaluation.fewer_cases import NOTE, fewer
from nnunet_sfma.evaluation.published import Column, Row
from nnunet_sfma.evaluation.significance import PairedTest


def format_comparison(comparison: Comparison) -> str:
    """The comparison as Markdown, for people."""
    blocks = [
        f"# Evaluations on {comparison.dataset or 'one data set'}",
        _format_ours(comparison),
        *(_format_published(each, comparison) for each in comparison.published),
    ]
    if not comparison.published:
        blocks.append("No table of the papers covers this data set, so the numbers above stand alone.")
    if comparison.tests:
        blocks.append(_format_tests(comparison))
    if comparison.protocol:
        blocks.append(_format_protocol(comparison))
    if comparison.departures:
        blocks.append(_format_departures(comparison))
    return "\n\n".join(blocks) + "\n"


def _format_ours(comparison: Comparison) -> str:
    over = dict(zip(comparison.names, comparison.spreads, strict=True))
    rows = [
        [line.name, over[line.name], line.class_name, *(_number(spread, 3) for spread in line.spreads)]
        for line in comparison.ours
    ]
    titles = [entry["title"] + (f" ({entry['unit']})" if entry["unit"] else "") for entry in comparison.metrics]
    table = _markdown(["model", "over", "class", *titles], rows, left=3)
    notes = [NOTE] if any(fewer(spread.n, spread.of) for line in comparison.ours for spread in line.spreads) else []
    return "\n\n".join([f"Mean ± standard deviation; {comparison.convention}.", table, *notes, *comparison.notes])


def _format_published(beside: BesidePublished, comparison: Comparison) -> str:
    table = beside.table
    remarks = list(dict.fromkeys(remark for row in table.rows for remark in row.remarks))
    rows = [_published_row(row, table.columns, remarks) for row in table.rows]
    for name, spreads in zip(comparison.names, beside.ours, strict=True):
        cells = [_number(spread, column.decimals) for spread, column in zip(spreads, table.columns, strict=True)]
        rows.append([f"**{name}**", "", *cells])
    over = " and ".join(dict.fromkeys(comparison.spreads))
    notes = [
        f"Published: {table.citation}. Ours (bold): mean ± standard deviation over {over}.",
        *([beside.note] if beside.note else []),
        *table.remarks,
        *(f"[{number}] {remark}" for number, remark in enumerate(remarks, 1)),
    ]
    if any(row.preset is None for row in table.rows):
        notes.append("Methods without a preset are published numbers only: no network of this project stands for them.")
    heading = f"## {table.name}: {table.title}"
    columns = ["method", "preset", *(column.title for column in table.columns)]
    return "\n\n".join([heading, _markdown(columns, rows, left=2), *notes])


def _published_row(row: Row, columns: Sequence[Column], remarks: list[str]) -> list[str]:
    marks = "".join(f" [{remarks.index(remark) + 1}]" for remark in row.remarks)
    values = [
        "-" if value is None else f"{value:.{column.decimals}f}"
        for value, column in zip(row.values, columns, strict=True)
    ]
    return [row.method + marks, row.preset or "", *values]


def _format_tests(comparison: Comparison) -> str:
    titles = {entry["key"]: entry["title"] for entry in comparison.metrics}
    rows = [
        [
            f"{test.a} - {test.b}",
            titles[test.metric],
            test.class_name,
            str(test.n),
            _signed(test.median_difference),
            _signed(test.mean_difference),
            "" if test.low is None else f"{_signed(test.low)} to {_signed(test.high)}",
            _p(test.p),
            _p(test.p_holm),
            test.note or "",
        ]
        for test in comparison.tests
    ]
    columns = ["difference", "metric", "class", "n", "median", "mean", "95 % interval", "p", "p (Holm)", "note"]
    return "\n\n".join(
        [
            "## Differences between ours",
            f"{how_tested(comparison.tests)} Holm's correction is over all pairs and classes of a metric, not over "
            "metrics.",
            _markdown(columns, rows, left=3),
        ]
    )


def how_tested(tests: Sequence[PairedTest]) -> str:
    """Return what is tested, by subject or by case."""
    if all(test.unit == "subjects" for test in tests):
        return "Wilcoxon's signed-rank test, two-sided, of subjects (cases of one subject are averaged first)."
    return (
        "Wilcoxon's signed-rank test, two-sided, of cases: whom they show is not known. If some show the same subject, "
        "they are not independent, and p and the intervals are too small: say whom they show in subjects.json beside "
        "the data set's dataset.json in nnUNet_raw, and evaluate again."
    )


def _format_protocol(comparison: Comparison) -> str:
    lines = ["## What the numbers rest on", ""]
    for line in comparison.protocol:
        ours = dict.fromkeys(line.ours)
        said = "stated" if line.stated else "not stated"
        lines.append(f"- **{line.title}.** Paper ({said}): {line.published}")
        if len(ours) == 1:
            lines.append(f"  Ours: {_sentence(line.ours[0])}")
        else:
            lines += [f"  {name}: {_sentence(text)}" for name, text in zip(comparison.names, line.ours, strict=True)]
    return "\n".join(lines)


def _format_departures(comparison: Comparison) -> str:
    """The departures; what the papers leave open is counted."""
    departures = [each for each in comparison.departures if each.entry.kind == "departure"]
    lines = ["## Where the networks depart from their papers", ""]
    for each in departures:
        entry = each.entry
        lines.append(f"- **{title(entry.network)}, {entry.where}** ({', '.join(each.names)}). Paper: {entry.printed}")
        lines.append(f"  Ours: {entry.done}" + (f" As printed: {entry.printed_form}." if entry.printed_form else ""))
    others = len(comparison.departures) - len(departures)
    lines += ["", f"{others} decisions on what the papers leave open: nnunet-sfma networks --departures."]
    return "\n".join(lines)


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A table whose first columns are text."""
    rule = ["---"] * left + ["---:"] * (len(columns) - left)
    lines = [columns, rule, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(spread: Spread, decimals: int) -> str:
    if spread.mean is None:
        return ""
    deviation = "" if spread.sd is None else f" ± {spread.sd:.{decimals}f}"
    return f"{spread.mean:.{decimals}f}{deviation}{fewer(spread.n, spread.of)}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
