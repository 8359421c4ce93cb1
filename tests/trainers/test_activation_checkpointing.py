"""The recipe's activation checkpointing."""

import json
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_sfma.errors import UserError
from nnunet_sfma.trainers import nnUNetTrainerRecipe
from tests.trainers.conftest import TRAINERS, read_checkpoint

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


WITHOUT_IT = {
    "a network without such units": (
        "danie-narrow",
        {},
        "checkpointing is true in the plan, but DANIE has none",
    ),
    "plain units": ("sfmanet-narrow", {"accelerate": False}, "only fast units compute their activations again"),
}


@pytest.mark.parametrize(("preset", "training", "sentence"), WITHOUT_IT.values(), ids=WITHOUT_IT)
def test_what_cannot_have_it_is_neither_planned_nor_trained(workspace, plan, train, preset, training, sentence):
    training = {"activation_checkpointing": True, **training}
    with pytest.raises(UserError, match=sentence):
        plan(*SHORT, *(f"training.{key}={json.dumps(value)}" for key, value in training.items()), preset=preset)
    path = workspace.preprocessed / workspace.plain / "tiny.json"
    assert not path.exists()
    plan(*SHORT, preset=preset)
    by_hand = json.loads(path.read_text())
    by_hand["configurations"]["2d"]["training"] |= training
    path.write_text(json.dumps(by_hand))
    with pytest.raises(UserError, match=sentence):
        train("tiny", trainer=TRAINERS[preset])
