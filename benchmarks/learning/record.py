"""What of a study is committed: an excerpt of its evaluations, with tests between them, as one JSON file."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from nnunet_sfma.evaluation.environment import hardware, versions
from nnunet_sfma.evaluation.significance import labels, paired_tests
from nnunet_sfma.files import replace_text
from nnunet_sfma.networks.cost import measure_cost
from nnunet_sfma.trainers.complete_plans import build_network

RESULTS = Path(__file__).resolve().parents[1] / "results" / "learning"
METRICS = ("dice", "iou", "hd95", "assd")
DIGITS = 5


def machine(environment: dict[str, str]) -> dict:
    """Hardware, versions, the variables that trainings were given, and the date; nothing that names the host."""
    return {
        **hardware(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "versions": versions(),
        "environment": environment,
        "date": date.today().isoformat(),
    }


def excerpt(evaluation: dict) -> dict:
    """The model, its folds with their learning curves, the summary and every case, without paths of this machine.

    Args:
        evaluation: as ``nnunet-sfma evaluate`` wrote it.

    Returns:
        "model", "split" (with its checksum), "convention", "folds", "summary" and "cases", a row for each case and
        class in the order of "columns".
    """
    model = evaluation["model"] or {}
    return {
        "dataset": evaluation["dataset"]["name"],
        "model": {key: value for key, value in model.items() if key != "folder"},
        "split": {key: value for key, value in (evaluation["split"] or {}).items() if key != "source"},
        "convention": evaluation["convention"],
        "folds": [_fold(fold) for fold in evaluation["folds"]],
        "summary": _summary(evaluation["summary"]),
        "columns": ["case", "fold", "class", *METRICS],
        "cases": [
            [case["case"], case["fold"], name, *(_short(scores.get(metric)) for metric in METRICS)]
            for case in evaluation["cases"]
            for name, scores in case["classes"].items()
        ],
    }


def network_cost(evaluation: dict) -> dict:
    """Parameters, and multiply-adds of one patch as they are computed, of the network that an evaluation is of."""
    dataset, model = evaluation["dataset"], evaluation["model"]
    shape = (len(dataset["channels"]), *model["patch_size"])
    with torch.device("meta"):
        network = build_network(model["architecture"], shape[0], len(dataset["classes"]) + 1)
    cost = measure_cost(network, shape)
    computed = cost.accelerated_conv_macs + cost.matmul_macs
    return {"parameters": cost.parameters, "multiply_adds": computed, "patch": list(shape)}


def tests(evaluations: Sequence[dict], names: Sequence[str], metrics: Sequence[str]) -> list[dict]:
    """Paired tests of every two evaluations, by the names that they have in the study."""
    by_label = dict(zip(labels(evaluations), names, strict=True))
    return [
        {**asdict(test), "a": by_label[test.a], "b": by_label[test.b]}
        for metric in metrics
        for test in paired_tests(evaluations, metric)
    ]


def write_result(path: Path, result: dict) -> None:
    """Write a result so that a line is a case, a fold or a number: readable, and small in a diff."""
    replace_text(path, _lines(result) + "\n")
    print(f"Wrote {path}")


def _fold(fold: dict) -> dict:
    kept = {key: fold.get(key) for key in ("fold", "state", "detail", "cases", "seconds", "device", "command")}
    return {**kept, "curves": {key: [_short(value) for value in values] for key, values in fold["curves"].items()}}


def _summary(summary: dict) -> dict:
    return {
        name: {metric: _rounded(scores[metric]) for metric in METRICS if metric in scores}
        for name, scores in ({**summary["classes"], "mean": summary["mean"]}).items()
    }


def _rounded(entry: dict) -> dict:
    return {
        key: [_short(v) for v in value] if isinstance(value, list) else _short(value) for key, value in entry.items()
    }


def _short(value: float | None) -> float | None:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _lines(value: object, indent: int = 0) -> str:
    """JSON with one line for whatever fits a line."""
    flat = json.dumps(value)
    if not isinstance(value, (dict, list)) or len(flat) + indent <= 120:
        return flat
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        entries = [f"{pad}{json.dumps(key)}: {_lines(entry, indent + 1)}" for key, entry in value.items()]
        return "{\n" + ",\n".join(entries) + f"\n{' ' * indent}}}"
    return "[\n" + ",\n".join(pad + _lines(entry, indent + 1) for entry in value) + f"\n{' ' * indent}]"
