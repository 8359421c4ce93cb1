"""The recipe's activation checkpointing."""

from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_sfma.errors import UserError
from nnunet_sfma.trainers import nnUNetTrainerRecipe
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


@pytest.mark.parametrize("value", ["true", "false"])
def test_the_trained_network_has_it_and_is_not_compiled(plan, train_only, value, monkeypatch):
    switched, compiled = [], []
    monkeypatch.setattr(nnUNetTrainerRecipe, "checkpoint_activations", switched.append)
    monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda trainer: compiled.append(trainer) or False)
    train_only(plan(*SHORT, f"training.activation_checkpointing={value}", name=f"switched_{value}"))
    assert (len(switched), bool(compiled)) == ((1, False) if value == "true" else (0, True))


def test_a_network_without_it_is_refused(plan, train):
    plans = plan(*SHORT, "training.activation_checkpointing=true", preset="danie-narrow")
    with pytest.raises(UserError, match="activation_checkpointing is true in the plan, but DANIE has none"):
        train(plans, trainer="nnUNetTrainerDANIE")


def test_plain_units_cannot_have_it(plan, train):
    plans = plan(*SHORT, "training.activation_checkpointing=true", "training.accelerate=false", name="plain")
    with pytest.raises(UserError, match="only fast units compute their activations again"):
        train(plans)
