"""What a fold was trained on: our checkpoints keep its cases; of nnU-Net's own trainers the training logs tell of them.

Whoever continues, validates, evaluates or predicts with a fold compares first.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import first_few
from nnunet_sfma.split_record import split_checksum

NUMBERS = re.compile(r"split has (\d+) training and (\d+) validation cases")
PREDICTED = re.compile(r": predicting (.+?) ?$", re.MULTILINE)
EPOCH = re.compile(r": Epoch (\d+) ?$", re.MULTILINE)


def describe_cases(training: Sequence[str], validation: Sequence[str]) -> dict:
    """Return the cases of a fold as a checkpoint keeps them, with the checksum of the fold's split."""
    cases = {"training": sorted(map(str, training)), "validation": sorted(map(str, validation))}
    split = {"train": cases["training"], "val": cases["validation"]}
    return {**cases, "split_sha256": split_checksum([split], [])}


def kept_cases(checkpoint: dict | None) -> dict | None:
    """Return what a checkpoint keeps of :func:`describe_cases`; None for those of nnU-Net's and of earlier versions."""
    kept = checkpoint.get("trained_on") if checkpoint else None
    return kept if isinstance(kept, dict) and {"training", "validation", "split_sha256"} <= kept.keys() else None


def refuse_another_split(folder: Path, kept: dict | None, training: Sequence[str], validation: Sequence[str]) -> None:
    """Refuse a fold that was trained on other cases than the split has for it now.

    Args:
        folder: of the fold.
        kept: what :func:`kept_cases` found in its checkpoint; the training logs are read if that is None.
        training, validation: the cases of the fold now.

    Raises:
        UserError: if the cases differ; the sentence names them.
    """
    now = describe_cases(training, validation)
    if kept is None:
        difference = _logged_otherwise(folder, now)
    else:
        difference = None if kept["split_sha256"] == now["split_sha256"] else _moved(kept, now)
    if difference:
        raise UserError(
            f"{folder} was trained with another split than there is now: {difference}; restore the split, or move the "
            f"folder away and train the fold again."
        )


def refuse_other_validation(folder: Path, kept: dict | None, predicted: Sequence[str]) -> None:
    """Refuse validation predictions of cases that the fold was not meant to validate.

    Args:
        folder: of the fold.
        kept: as in :func:`refuse_another_split`.
        predicted: the cases that have a validation prediction.

    Raises:
        UserError: if there are such cases; the sentence names them.
    """
    validation = kept["validation"] if kept else _logged_validation(folder)
    is_known = kept or len(validation) in {number for _, number in _logged_numbers(folder)}
    strangers = sorted(set(predicted) - set(validation)) if is_known else []
    trained = sorted(set(strangers) & set(kept["training"])) if kept else []
    if strangers:
        which = f"{first_few(trained)}, on which it was trained" if trained else f"{first_few(strangers)}, unlike then"
        raise UserError(
            f"{folder / 'validation'} holds predictions of another split than the fold was trained with ({which}): "
            f"move it away, validate again with --val, and accumulate the folds again."
        )


def _moved(kept: dict, now: dict) -> str:
    validates_on_training = all(cases["training"] == cases["validation"] for cases in (kept, now))  # such as fold all
    leaked = sorted(set(kept["training"]) & set(now["validation"]))
    if leaked and not validates_on_training:
        return f"it was trained on {first_few(leaked)}, to be validated now"
    sides = ((kept, now, "training", "it was trained on"), (now, kept, "training", "now it trains on"))
    if not validates_on_training:
        sides += ((kept, now, "validation", "it validated"), (now, kept, "validation", "now it validates"))
    differences = ((verb, sorted(set(one[side]) - set(other[side]))) for one, other, side, verb in sides)
    return ", ".join(f"{verb} {first_few(cases)}" for verb, cases in differences if cases)


def _logged_otherwise(folder: Path, now: dict) -> str | None:
    numbers = len(now["training"]), len(now["validation"])
    for then in sorted(_logged_numbers(folder) - {numbers}):
        logged = "{} training and {} validation cases".format(*then)
        return f"its log tells of {logged}, the split has {numbers[0]} and {numbers[1]}"
    strangers = sorted(_logged_validation(folder) - set(now["validation"]))
    return f"its log tells that {first_few(strangers)} were validated" if strangers else None


def _logged_validation(folder: Path) -> set[str]:
    """The cases that were validated right after the training, by its log; not all of them if it was killed there."""
    return {case for text in _training_logs(folder) for case in PREDICTED.findall(text)}


def _logged_numbers(folder: Path) -> set[tuple[int, int]]:
    """How many training and validation cases the fold had, by the logs of its training."""
    return {(int(one), int(other)) for text in _training_logs(folder) for one, other in NUMBERS.findall(text)}


def _training_logs(folder: Path) -> list[str]:
    """The logs of the latest training in this folder and of its continuations; not those of validations alone."""
    texts = []
    for path in sorted(folder.glob("training_log_*.txt"), key=_begun):
        text = path.read_text(encoding="utf-8", errors="replace")
        epochs = EPOCH.findall(text)
        if epochs and epochs[0] == "0":
            texts = []
        if epochs:
            texts.append(text)
    return texts


def _begun(log: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", log.name)]
