"""What a folder of predictions remembers of their making, so that no two models' predictions lie in one folder."""

import json
from pathlib import Path

from nnunet_sfma.crossval.predictions import DESCRIPTIONS, Prediction
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.trainers.checkpoints import FINAL

NNUNETS_RECORD = "predict_from_raw_data_args.json"
WORDS = {
    "dataset": "of another data set",
    "trainer": "by another trainer",
    "plans": "with other plans",
    "configuration": "by another configuration",
    "folds": "by other folds",
    "checkpoints": "before the model was trained again",
    "images": "from other images",
    "postprocessing": "with another post-processing",
}


def refuse_others(prediction: Prediction, overwrite: bool) -> None:
    """Refuse a folder that holds other predictions.

    Args:
        overwrite: whether they are to be replaced; what may not be a prediction is not.

    Raises:
        UserError: if that is so.
    """
    if not _predictions(prediction):
        return
    if not prediction.record.is_file():
        _refuse_unknown(prediction, overwrite)
    elif not overwrite:
        made_by, now = _read(prediction.record), _describe(prediction)
        different = [key for key in WORDS if made_by.get(key) != now[key]]
        if different:
            raise UserError(
                f"{prediction.output} holds predictions that were made {WORDS[different[0]]} "
                f"({made_by.get(different[0])}): choose another folder with -o, or replace them with --overwrite."
            )


def remember(prediction: Prediction) -> None:
    """Write down what makes the predictions; everything that is there has been looked at before.

    Raises:
        UserError: if it cannot be written.
    """
    replace_text(prediction.record, json.dumps(_describe(prediction), indent=2) + "\n")


def remove_all(prediction: Prediction) -> None:
    """Remove the predictions, what nnU-Net wrote beside them, and last what says who made them."""
    beside = [folder / name for folder in _folders(prediction) for name in (*DESCRIPTIONS, NNUNETS_RECORD)]
    for path in [*_predictions(prediction), *beside, prediction.record]:
        path.unlink(missing_ok=True)


def _folders(prediction: Prediction) -> list[Path]:
    return [prediction.output, prediction.output / "before_postprocessing"]


def _predictions(prediction: Prediction) -> list[Path]:
    return [path for folder in _folders(prediction) for path in folder.glob(f"*{prediction.ending}")]


def _refuse_unknown(prediction: Prediction, overwrite: bool) -> None:
    output, ending = prediction.output, prediction.ending
    if not any((folder / NNUNETS_RECORD).is_file() for folder in _folders(prediction)):
        raise UserError(f"{output} holds {ending} files that are no predictions: choose another folder with -o.")
    if not overwrite:
        raise UserError(
            f"{output} holds predictions, but nothing says by which folds they were made: choose another folder with "
            "-o, or replace them with --overwrite."
        )


def _describe(prediction: Prediction) -> dict:
    model = prediction.model
    checkpoints = {str(fold): _identity(model.folder / f"fold_{fold}" / FINAL) for fold in prediction.folds}
    return {
        "dataset": model.dataset,
        "trainer": model.trainer,
        "plans": model.plans,
        "configuration": model.configuration,
        "folds": list(prediction.folds),
        "checkpoints": checkpoints,
        "images": str(prediction.images.resolve()),
        "postprocessing": str(prediction.postprocessing) if prediction.postprocessing else None,
    }


def _identity(path: Path) -> dict:
    return {"bytes": path.stat().st_size, "changed_ns": path.stat().st_mtime_ns}


def _read(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{path} is damaged: replace the predictions with --overwrite.") from None
