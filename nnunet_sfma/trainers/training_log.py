"""nnU-Net's log of a training, whose moving average of the pseudo Dice survives epochs without one."""

from collections.abc import Sequence

import numpy as np
from nnunetv2.training.logging.nnunet_logger import LocalLogger

DICE, AVERAGE = "mean_fg_dice", "ema_fg_dice"


class TrainingLog(LocalLogger):
    """nnU-Net's log with the training Dice, and a moving average that no NaN ends.

    The pseudo Dice of an epoch is NaN if no class occurs in its validation samples or is predicted there. nnU-Net's
    moving average stays NaN from then on, and no later epoch can be the best one.
    """

    def __init__(self):
        super().__init__()
        self.my_fantastic_logging["train_dice"] = []

    def log(self, key: str, value: object, epoch: int) -> None:
        """Log a value of an epoch; the moving average is that of the epochs that have a pseudo Dice."""
        if key == AVERAGE:
            value = _moving_average(self.my_fantastic_logging[DICE][: epoch + 1])
        super().log(key, value, epoch)

    def load_checkpoint(self, checkpoint: dict) -> None:
        """Take over the log of a checkpoint; one whose moving average is NaN gets it anew."""
        super().load_checkpoint(checkpoint)
        values = self.my_fantastic_logging
        if not np.isfinite(values[AVERAGE]).all():
            values[AVERAGE] = [_moving_average(values[DICE][: epoch + 1]) for epoch in range(len(values[AVERAGE]))]


def _moving_average(dice: Sequence[float]) -> float:
    """nnU-Net's exponential moving average over the epochs that have a Dice; 0 as long as none has one."""
    average = None
    for value in dice:
        if np.isfinite(value):
            average = value if average is None else average * 0.9 + 0.1 * value
    return 0.0 if average is None else average
