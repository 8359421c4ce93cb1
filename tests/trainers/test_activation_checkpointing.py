"""The recipe's activation checkpointing."""

from pathlib import Path

import pytest
import torch

from nnunet_sfma.errors import UserError
from tests.trainers.conftest import read_checkpoint

SHORT = ("training.num_epochs=1", "training.iterations_per_epoch=1", "training.seed=7")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoint_final.pth")["network_weights"]


def test_the_same_weights_come_out(plan, train_only):
    checkpointed, kept = (
        weights(train_only(plan(*SHORT, f"training.activation_checkpointing={value}", name=f"checkpointing_{value}")))
        for value in ("true", "false")
    )
    torch.testing.assert_close(checkpointed, kept)


def test_a_network_without_it_is_refused(plan, train):
    plans = plan(*SHORT, "training.activation_checkpointing=true", preset="danie-narrow")
    with pytest.raises(UserError, match="activation_checkpointing is true in the plan, but DANIE has none"):
        train(plans, trainer="nnUNetTrainerDANIE")
