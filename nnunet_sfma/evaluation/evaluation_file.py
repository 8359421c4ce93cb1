"""``evaluation.json``, the one file from which comparisons, reports and tables are built."""

import json
import math
from pathlib import Path

from nnunet_sfma.errors import UserError

NAME = "evaluation.json"
FORMAT = 1
BLOCKS = ("dataset", "model", "conventions", "metrics", "split", "folds", "missing", "cases", "summary", "versions")


def to_json(evaluation: dict) -> str:
    """The evaluation as JSON; a number that is none is null, and "path" stays out."""
    return json.dumps(_plain({key: value for key, value in evaluation.items() if key != "path"}), indent=1) + "\n"


def read_evaluation(path: Path) -> dict:
    """Read what ``nnunet-sfma evaluate`` wrote; ``path`` in it tells where.

    Args:
        path: the file, the folder it lies in, or the model's folder.

    Raises:
        UserError: if it is not there or damaged.
    """
    path = Path(path)
    places = [path, path / NAME, path / "evaluation" / NAME]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(f"There is no {NAME} in {path}: make it with nnunet-sfma evaluate.")
    try:
        evaluation = json.loads(file.read_text(encoding="utf-8"))
        if evaluation["format"] != FORMAT or not all(key in evaluation for key in BLOCKS):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{file} is damaged or of another release: make it again with nnunet-sfma evaluate.") from None
    return {**evaluation, "path": str(file.absolute())}


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
