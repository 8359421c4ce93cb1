"""The best checkpoint goes on being looked for after an epoch without a pseudo Dice."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from tests.trainers.conftest import TRAINER, read_checkpoint


def make_trainer(continues: bool = False):
    trainer = get_trainer_from_args("1", "2d", 0, TRAINER, "tiny", continues, torch.device("cpu"))
    maybe_load_checkpoint(trainer, continues, False)
    if not continues:
        trainer.initialize()
    return trainer


def epoch(trainer, dice: float | None) -> None:
    """An epoch whose validation samples gave this Dice, or held and got no foreground at all."""
    counts = (0, 0, 0) if dice is None else (round(100 * dice), round(100 - 100 * dice), round(100 - 100 * dice))
    names = ("tp_hard", "fp_hard", "fn_hard")
    outputs = [{"loss": np.float32(1), **{name: np.array([count]) for name, count in zip(names, counts, strict=True)}}]
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end(outputs)
    trainer.on_validation_epoch_end(outputs)
    trainer.on_epoch_end()


@pytest.fixture
def folder(workspace, plan) -> Path:
    plan("training.num_epochs=6")
    path = workspace.results / workspace.plain / f"{TRAINER}__tiny__2d" / "fold_0"
    path.mkdir(parents=True)
    return path


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_later_epoch_can_be_the_best_after_one_without_a_pseudo_dice(folder):
    trainer = make_trainer()
    for dice in (0.4, None, 0.8):
        epoch(trainer, dice)
    average = 0.9 * 0.4 + 0.1 * 0.8
    best = read_checkpoint(folder / "checkpoint_best.pth")
    assert best["current_epoch"] == 3 and best["_best_ema"] == pytest.approx(average)
    assert np.isnan(best["logging"]["mean_fg_dice"][1])
    assert best["logging"]["ema_fg_dice"] == pytest.approx([0.4, 0.4, average])


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
@pytest.mark.parametrize("first", [None, 0.4])
def test_checkpoint_of_before_with_nan_in_its_average_is_continued(folder, first):
    trainer = make_trainer()
    for dice in (first, None):
        epoch(trainer, dice)
    latest = folder / "checkpoint_latest.pth"
    old = read_checkpoint(latest)
    old["logging"]["ema_fg_dice"] = [np.nan if first is None else first, np.nan]
    old["_best_ema"] = old["logging"]["ema_fg_dice"][0]
    torch.save(old, latest)
    trainer = make_trainer(continues=True)
    epoch(trainer, 0.6)
    expected = 0.6 if first is None else 0.9 * first + 0.1 * 0.6
    best = read_checkpoint(folder / "checkpoint_best.pth")
    assert best["current_epoch"] == 3 and best["_best_ema"] == pytest.approx(expected)
