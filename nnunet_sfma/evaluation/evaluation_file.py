"""``evaluation.json``, the one file from which comparisons, reports and tables are built."""

import json
import math
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.conventions import TEXTS
from nnunet_sfma.evaluation.schema import EVALUATION
from nnunet_sfma.evaluation.summary import mean_of_classes
from nnunet_sfma.json_files import read_json

NAME = "evaluation.json"
ADVICE = "make it again with nnunet-sfma evaluate"


def to_json(evaluation: dict) -> str:
    """The evaluation as JSON; a number that is none is null, and "path" stays out."""
    return json.dumps(_plain({key: value for key, value in evaluation.items() if key != "path"}), indent=1) + "\n"


def read_evaluation(path: Path) -> dict:
    """Read what ``nnunet-sfma evaluate`` wrote; ``path`` in it tells where.

    Args:
        path: the file, the folder it lies in, or the model's folder.

    Raises:
        UserError: if it is not there, damaged or of another release.
    """
    path = Path(path)
    places = [path, path / NAME, path / "evaluation" / NAME]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(f"There is no {NAME} in {path}: make it with nnunet-sfma evaluate.")
    evaluation = read_json(file, EVALUATION, advice=ADVICE)
    _refuse_contradictions(evaluation, file)
    if evaluation["conventions"].get("f1") == "f1-of-means" and evaluation["summary"]:
        _renew_mean_f1(evaluation, file)
    return {**evaluation, "path": str(file.absolute())}


def _refuse_contradictions(evaluation: dict, file: Path) -> None:
    """The parts of an evaluation name the same classes."""
    classes = set(evaluation["dataset"]["classes"])
    named = {"dataset.class_labels": evaluation["dataset"]["class_labels"]}
    named |= {f"cases[{number}].classes": case["classes"] for number, case in enumerate(evaluation["cases"])}
    if evaluation["summary"]:
        named["summary.classes"] = evaluation["summary"]["classes"]
    for place, entries in named.items():
        if set(entries) != classes:
            raise UserError(f"{file} is damaged ({place}: other classes than in dataset.classes): {ADVICE}.")


def _renew_mean_f1(evaluation: dict, file: Path) -> None:
    """Take the mean of the classes' F1; earlier versions computed it from precision and recall over all classes."""
    summary = evaluation["summary"]
    try:
        summary["mean"]["f1"] = mean_of_classes([of_one["f1"] for of_one in summary["classes"].values()])
    except (KeyError, ValueError):
        raise UserError(f"{file} is damaged (summary.classes: no F1 to take the mean of): {ADVICE}.") from None
    evaluation["convention_texts"]["f1"] = TEXTS["f1"]["f1-of-means"]


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
