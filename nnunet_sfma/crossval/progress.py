"""How far a training is, from the logs that nnU-Net writes beside its checkpoints."""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import read_json

LAST_BYTES = 60_000
EPOCHS_FOR_PACE = 10
LINES = {
    "epoch": re.compile(r": Epoch (\d{1,9}) *$", re.MULTILINE),
    "loss": re.compile(r": train_loss (-?\d+\.?\d*(?:e[+-]?\d+)?|-?inf|nan) *$", re.MULTILINE),
    "pseudo_dice": re.compile(r": Pseudo dice \[(.*)\] *$", re.MULTILINE),
    "seconds": re.compile(r": Epoch time: (\d{1,9}\.?\d*) s *$", re.MULTILINE),
}
SUMMARY = {
    "type": "object",
    "required": ["foreground_mean"],
    "properties": {
        "foreground_mean": {"type": "object", "required": ["Dice"], "properties": {"Dice": {"type": "number"}}}
    },
}
NUMBER = re.compile(r"(?:float\d+\()?(-?\d+\.?\d*(?:e-?\d+)?|nan)\)?")


@dataclass(frozen=True)
class Progress:
    """What the newest log of a fold tells; None where it does not.

    Attributes:
        epoch: number of the epoch under way, from 0.
        loss: training loss of the last whole epoch.
        pseudo_dice: of the last whole epoch, mean over the classes: of random patches, and so not that of the cases.
        seconds_per_epoch: median of the last whole epochs.
        predicting: whether the final validation has begun.
        last_change: when the log was last written to, in seconds since 1970.
    """

    epoch: int | None = None
    loss: float | None = None
    pseudo_dice: float | None = None
    seconds_per_epoch: float | None = None
    predicting: bool = False
    last_change: float | None = None

    def seconds_left(self, num_epochs: int | None) -> float | None:
        """Until the last epoch is done, at the present pace."""
        if None in (num_epochs, self.epoch, self.seconds_per_epoch):
            return None
        return (num_epochs - self.epoch) * self.seconds_per_epoch


def read_progress(fold: Path) -> Progress:
    """The progress of a fold, from the end of its newest ``training_log_*.txt``.

    A line that a kill left cut off, or that something else has damaged, tells nothing.

    Raises:
        OSError: if the log cannot be read.
    """
    logs = sorted(fold.glob("training_log_*.txt"), key=_begun)
    if not logs:
        return Progress()
    with logs[-1].open("rb") as file:
        file.seek(max(0, logs[-1].stat().st_size - LAST_BYTES))
        text = file.read().decode(errors="replace").rpartition("\n")[0]
    found = {key: pattern.findall(text) for key, pattern in LINES.items()}
    pace = [float(seconds) for seconds in found["seconds"][-EPOCHS_FOR_PACE:]]
    return Progress(
        epoch=int(found["epoch"][-1]) if found["epoch"] else None,
        loss=float(found["loss"][-1]) if found["loss"] else None,
        pseudo_dice=_mean(found["pseudo_dice"][-1]) if found["pseudo_dice"] else None,
        seconds_per_epoch=float(np.median(pace)) if pace else None,
        predicting=": predicting " in text,
        last_change=logs[-1].stat().st_mtime,
    )


def _begun(log: Path) -> list[int]:
    """Year, month, day, hour, minute and second in its name: a copy may be of another age."""
    return [int(number) for number in re.findall(r"\d{1,9}", log.stem)]


def read_validated_dice(fold: Path) -> float | None:
    """Dice of the validation cases, mean over the classes, as nnU-Net's summary has it; None without a readable one."""
    with contextlib.suppress(UserError):
        return read_json(fold / "validation" / "summary.json", SUMMARY)["foreground_mean"]["Dice"]
    return None


def _mean(values: str) -> float | None:
    numbers = [float(number) for number in NUMBER.findall(values)]
    return float(np.nanmean(numbers)) if numbers and not np.isnan(numbers).all() else None
