"""The evaluation as CSV, for whoever goes on with a spreadsheet or pandas, and in short for the terminal.

Every row names its conventions.
"""

from nnunet_sfma.csv_text import to_csv


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
        [evaluation["name"], name, key, *(statistics[column] for column in columns), evaluation["convention"]]
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
        lines += _markdown(evaluation)
    else:
        lines += ["No means over the folds, because of what is missing:", *evaluation["missing"]]
    lines += ["", *evaluation["convention_texts"].values(), "", f"Wrote {evaluation['path']}"]
    return "\n".join(lines)


def _markdown(evaluation: dict) -> list[str]:
    """A row for each metric: the classes' mean over cases and over folds, then class by class over cases."""
    summary = evaluation["summary"]
    columns = {
        "mean" if len(summary["classes"]) > 1 else next(iter(summary["classes"])): (summary["mean"], _over_cases)
    }
    if len(evaluation["folds"]) > 1:
        columns["over folds"] = (summary["mean"], _over_folds)
    if len(summary["classes"]) > 1:
        columns |= {name: (metrics, _over_cases) for name, metrics in summary["classes"].items()}
    lines = ["| metric | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for metric in evaluation["metrics"]:
        cells = [write(metrics.get(metric["key"])) for metrics, write in columns.values()]
        unit = f" ({metric['unit']})" if metric["unit"] else ""
        lines.append(f"| {metric['title']}{unit} | " + " | ".join(cells) + " |")
    return [*lines, "", "Mean ± standard deviation (number of cases that have a value)."]


def _over_cases(statistics: dict | None) -> str:
    written = _spread(statistics, "mean", "sd")
    return f"{written} ({statistics['n']})" if written else ""


def _over_folds(statistics: dict | None) -> str:
    return _spread(statistics, "mean_of_folds", "sd_of_folds")


def _spread(statistics: dict | None, mean: str, deviation: str) -> str:
    if statistics is None or statistics[mean] is None:
        return ""
    return f"{statistics[mean]:.3f}" + ("" if statistics[deviation] is None else f" ± {statistics[deviation]:.3f}")
