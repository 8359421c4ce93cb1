"""What a folder of predictions remembers of their making, so that no two models' predictions lie in one folder."""

import hashlib
import json
import zipfile
from pathlib import Path

from nnunet_sfma.crossval.images import files_by_case
from nnunet_sfma.crossval.predictions import BEFORE_POSTPROCESSING, DESCRIPTIONS, Prediction
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text, sha256
from nnunet_sfma.json_files import read_json
from nnunet_sfma.sentences import first_line
from nnunet_sfma.trainers.checkpoint_reader import UNREADABLE
from nnunet_sfma.trainers.checkpoints import FINAL

# size and age of a file; records of today hold it for each channel, older ones for the first channel alone
STATE = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
STATES = {"type": "array", "items": STATE}
RECORD = {
    "type": "object",
    "properties": {
        # what --overwrite removes: files of these names, so nothing that leads out of the folder
        "images": {
            "type": "object",
            "propertyNames": {"pattern": r"^[^./][^/]*$"},
            "additionalProperties": {"anyOf": [STATE, STATES]},
        },
        "checkpoints": {"type": "object", "additionalProperties": {"type": "string"}},
        "finished": {"type": "boolean"},
    },
}
NNUNETS_RECORD = "predict_from_raw_data_args.json"
WORDS = {
    "dataset": "of another data set",
    "trainer": "by another trainer",
    "plans": "with other plans",
    "configuration": "by another configuration",
    "folds": "by other folds",
    "checkpoints": "before the model was trained again",
    "postprocessing": "with another post-processing",
}


def refuse_others(prediction: Prediction, overwrite: bool) -> None:
    """Refuse a folder that holds other predictions, or something else.

    Args:
        overwrite: whether predictions are to be replaced; what may not be one is not.

    Raises:
        UserError: if that is so.
    """
    inner = prediction.output / BEFORE_POSTPROCESSING
    if inner.is_symlink():  # what is written to and removed from it would lie elsewhere
        raise UserError(f"{inner} is a link: remove it, or choose another folder with -o.")
    if prediction.record.is_file():
        if not overwrite:
            _refuse_different(prediction)
        return
    strangers = [*_files(prediction), *(name for name in DESCRIPTIONS if (prediction.output / name).is_file())]
    if strangers and not any((folder / NNUNETS_RECORD).is_file() for folder in _folders(prediction)):
        raise UserError(f"{prediction.output} holds files that are no predictions: choose another folder with -o.")
    if strangers and not overwrite:
        raise UserError(
            f"{prediction.output} holds predictions, but nothing says by which folds they were made: choose another "
            "folder with -o, or replace them with --overwrite."
        )


def is_unfinished(prediction: Prediction) -> bool:
    """Whether the folder holds a part of exactly this prediction: to replace it once more would lose what is done."""
    if not prediction.record.is_file():
        return False
    made_by, now = _read(prediction.record), _describe(prediction)
    return not made_by.get("finished") and not _different(made_by, now)


def adopt(prediction: Prediction) -> None:
    """Bring predictions that are there to where this prediction has them, and remove those of images that changed."""
    if not prediction.record.is_file():
        return
    made_by = _read(prediction.record)
    if prediction.postprocessing and made_by.get("postprocessing") is None:
        prediction.predicted.mkdir(exist_ok=True)
        for path in prediction.files(prediction.output):
            if path.is_file():
                path.replace(prediction.predicted / path.name)
    then, now = made_by.get("images", {}), _images(prediction)
    for case in prediction.cases:
        if case in then and not _is_same(then[case], now[case]):
            print(f"The image of {case} was changed: it is predicted again.")
            for folder in _folders(prediction):
                (folder / f"{case}{prediction.ending}").unlink(missing_ok=True)


def remember(prediction: Prediction, is_finished: bool = False) -> None:
    """Write down what makes the predictions; everything that is there has been looked at before.

    Raises:
        UserError: if it cannot be written.
    """
    then = _read(prediction.record).get("images", {}) if prediction.record.is_file() else {}
    # a prediction is of the images as they were when it began, whatever became of them since; one whose image is gone
    # may be there still when another image of that name comes
    images = then if is_finished and then else {**then, **_images(prediction)}
    about = {**_describe(prediction), "finished": is_finished, "images": images}
    replace_text(prediction.record, json.dumps(about, indent=2) + "\n")


def remove_all(prediction: Prediction) -> None:
    """Remove the predictions of these cases and of those remembered, what nnU-Net wrote beside them, and the record."""
    remembered = _read(prediction.record).get("images", {}) if prediction.record.is_file() else {}
    names = [f"{case}{prediction.ending}" for case in {*prediction.cases, *remembered}]
    for folder in _folders(prediction):
        for name in (*names, *DESCRIPTIONS, NNUNETS_RECORD):
            (folder / name).unlink(missing_ok=True)
    prediction.record.unlink(missing_ok=True)


def _folders(prediction: Prediction) -> list[Path]:
    return [prediction.output, prediction.output / BEFORE_POSTPROCESSING]


def _files(prediction: Prediction) -> list[Path]:
    return [path for folder in _folders(prediction) for path in folder.glob(f"*{prediction.ending}")]


def _refuse_different(prediction: Prediction) -> None:
    made_by, now = _read(prediction.record), _describe(prediction)
    different = _different(made_by, now)
    if different:
        what = different[0]
        raise UserError(
            f"{prediction.output} holds predictions that were made {WORDS[what]} ({made_by.get(what)}): choose "
            "another folder with -o, or replace them with --overwrite."
        )


def _different(made_by: dict, now: dict) -> list[str]:
    """What differs; a post-processing that was not there before can still be applied."""
    different = [key for key in WORDS if made_by.get(key) != now[key]]
    return different if made_by.get("postprocessing") else [key for key in different if key != "postprocessing"]


def _describe(prediction: Prediction) -> dict:
    model = prediction.model
    checkpoints = {str(fold): _fingerprint(model.folder / f"fold_{fold}" / FINAL) for fold in prediction.folds}
    return {
        "dataset": model.dataset,
        "trainer": model.trainer,
        "plans": model.plans,
        "configuration": model.configuration,
        "folds": list(prediction.folds),
        "checkpoints": checkpoints,
        "postprocessing": sha256(prediction.postprocessing) if prediction.postprocessing else None,
    }


def _fingerprint(checkpoint: Path) -> str:
    """Of the checksums that PyTorch keeps for each part of a checkpoint: the same for a copy, and read in no time.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            entries = [(entry.filename, entry.CRC) for entry in archive.infolist()]
    except UNREADABLE as error:
        raise UserError(
            f"{checkpoint} cannot be read ({first_line(error)}): restore it, or train the fold again."
        ) from None
    return hashlib.sha256(repr(entries).encode()).hexdigest()


def _images(prediction: Prediction) -> dict[str, list[list[int]]]:
    """Size and age of every file of each case."""
    files = files_by_case(prediction.images, prediction.ending)
    return {case: [_state(path) for path in files[case]] for case in prediction.cases}


def _state(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _is_same(then: list, now: list[list[int]]) -> bool:
    """Whether the files of a case are those of then, of which an older record knows the first alone."""
    return then == (now if then and isinstance(then[0], list) else now[0])


def _read(path: Path) -> dict:
    return read_json(path, RECORD, advice="remove it and the predictions beside it")
