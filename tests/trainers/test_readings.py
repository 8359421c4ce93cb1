"""Presets of other readings train, with their switches in what is saved."""

import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.presets import load_preset
from tests.conftest import SHORT_RECIPE, TINY_NETWORKS
from tests.trainers.conftest import read_checkpoint


@pytest.mark.parametrize("preset", ["sfmanet-literal", "sfmanet-scconv"])
def test_readings_of_sfmanet_train(workspace, train_only, preset: str):
    settings = [*TINY_NETWORKS["sfmanet-narrow"], *SHORT_RECIPE, "patch_size=[64,64]", "training.num_epochs=1"]
    main(["plan", "-d", "1", "--preset", preset, "--set", *settings, "training.iterations_per_epoch=3"])
    checkpoint = read_checkpoint(train_only(preset) / "checkpoint_final.pth")
    trained = checkpoint["init_args"]["plans"]["configurations"]["2d"]["architecture"]["arch_kwargs"]
    tiny = {"features_per_stage": [16, 32], "iem_stages": 1}
    assert trained == {**load_preset(preset).architecture["arch_kwargs"], **tiny}
    assert all(torch.isfinite(value).all() for value in checkpoint["network_weights"].values())
