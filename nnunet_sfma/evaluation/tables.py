"""The evaluation as CSV, for whoever goes on with a spreadsheet or pandas, and in short for the terminal.

Every row names its conventions.
"""

from nnunet_sfma.csv_text import to_csv
from nnunet_sfma.evaluation.fewer_cases import cases_behind, what_is_missing
from nnunet_sfma.evaluation.statistics import MEAN


def cases_csv(evaluation: dict) -> str:
    """A row for each case and class; the class "mean" is the mean over the case's classes."""
    keys = [metric["key"] for metric in evaluation["metrics"]]
    volumes = ["volume_reference", "volume_prediction"]
    header = ["model", "case", "subject", "fold", "class", *keys, *volumes, "convention"]
    rows = [
        [
            evaluation["name"],
            case["case"],
            case["subject"],
            case["fold"],
            name,
            *(metrics.get(key) for key in [*keys, *volumes]),
            evaluation["convention"],
        ]
        for case in evaluation["cases"]
        for name, metrics in [*case["classes"].items(), ("mean", case["mean"])]
    ]
    return to_csv(header, rows)


def summary_csv(evaluation: dict) -> str:
    """A row for each class and metric; empty, but for the header, where folds are missing."""
    columns = ["mean", "sd", "n", "low", "high", "mean_of_folds", "sd_of_folds"]
    summary = evaluation["summary"] or {"classes": {}, "mean": {}}
    rows = [
        [
            evaluation["name"],
            name,
            key,
            *(cases_behind(evaluation, name, key) if column == "n" else statistics[column] for column in columns),
            evaluation["convention"],
        ]
        for name, metrics in [*summary["classes"].items(), ("mean", summary["mean"])]
        for key, statistics in metrics.items()
    ]
    return to_csv(["model", "class", "metric", *columns, "convention"], rows)


def describe(evaluation: dict) -> str:
    """The summary, the conventions, and what is missing."""
    lines = [f"{evaluation['name']}: {len(evaluation['cases'])} cases of {evaluation['dataset']['name']}", ""]
    if evaluation["subset"]:
        lines = [f"{lines[0]}, of folds {', '.join(str(fold['fold']) for fold in evaluation['folds'])} only", ""]
    if evaluation["summary"]:
        lines += [*_markdown(evaluation), *what_is_missing(evaluation)]
    else:
        lines += ["No means over the folds, because of what is missing:", *evaluation["missing"]]
    lines += ["", *evaluation["convention_texts"].values(), "", f"Wrote {evaluation['path']}"]
    return "\n".join(lines)


def _markdown(evaluation: dict) -> list[str]:
    """A row for each metric: the classes' mean over cases and over folds, then class by class over cases."""
    classes = list(evaluation["summary"]["classes"])
    columns = {MEAN if len(classes) > 1 else classes[0]: (MEAN, _over_cases)}
    if len(evaluation["folds"]) > 1:
        columns["over folds"] = (MEAN, _over_folds)
    if len(classes) > 1:
        columns |= {name: (name, _over_cases) for name in classes}
    lines = ["| metric | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for metric in evaluation["metrics"]:
        cells = [write(evaluation, name, metric["key"]) for name, write in columns.values()]
        unit = f" ({metric['unit']})" if metric["unit"] else ""
        lines.append(f"| {metric['title']}{unit} | " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        "Mean ± standard deviation (number of cases that have a value; of a mean, those of the class with the fewest).",
    ]


def _over_cases(evaluation: dict, class_name: str, key: str) -> str:
    written = _spread(_statistics(evaluation, class_name).get(key), "mean", "sd")
    return f"{written} ({cases_behind(evaluation, class_name, key)})" if written else ""


def _over_folds(evaluation: dict, class_name: str, key: str) -> str:
    return _spread(_statistics(evaluation, class_name).get(key), "mean_of_folds", "sd_of_folds")


def _statistics(evaluation: dict, class_name: str) -> dict:
    summary = evaluation["summary"]
    return summary["mean"] if class_name == MEAN else summary["classes"][class_name]


def _spread(statistics: dict | None, mean: str, deviation: str) -> str:
    if statistics is None or statistics[mean] is None:
        return ""
    return f"{statistics[mean]:.3f}" + ("" if statistics[deviation] is None else f" ± {statistics[deviation]:.3f}")
