"""Presets of other readings and rows of ablations train, with their switches in what is saved."""

from pathlib import Path

import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.presets import load_preset
from tests.conftest import SHORT_RECIPE
from tests.trainers.conftest import read_checkpoint

TINY = ("architecture.features_per_stage=[16,32]", "patch_size=[64,64]", "training.num_epochs=1", *SHORT_RECIPE)


def trained(folder: Path) -> dict:
    """The network's arguments as the checkpoint has them."""
    checkpoint = read_checkpoint(folder / "checkpoint_final.pth")
    assert all(torch.isfinite(value).all() for value in checkpoint["network_weights"].values())
    return checkpoint["init_args"]["plans"]["configurations"]["2d"]["architecture"]["arch_kwargs"]


@pytest.mark.parametrize("preset", ["sfmanet-literal", "sfmanet-scconv"])
def test_readings_of_sfmanet_train(workspace, train_only, preset: str):
    three = ("architecture.iem_stages=1", "training.iterations_per_epoch=3")
    main(["plan", "-d", "1", "--preset", preset, "--set", *TINY, *three])
    tiny = {"features_per_stage": [16, 32], "iem_stages": 1}
    assert trained(train_only(preset)) == {**load_preset(preset).architecture["arch_kwargs"], **tiny}


def test_a_row_of_an_ablation_trains_under_its_default_name(workspace, train_only):
    main(["plan", "-d", "1", "--preset", "sfmanet-narrow", "--ablation", "unet+sfgu", "--set", *TINY])
    folder = train_only("sfmanet-narrow-unet+sfgu")
    assert folder.parent.name == "nnUNetTrainerSFMANet__sfmanet-narrow-unet+sfgu__2d"
    assert (trained(folder)["dmau"], trained(folder)["iem_stages"]) == (False, 0)
