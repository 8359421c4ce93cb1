"""Plans and short trainings through the entry points that nnU-Net's commands call."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import SHORT_RECIPE, TINY_NETWORKS, Workspace

TRAINER = "nnUNetTrainerSFMANet"
TRAINERS = {"sfmanet-narrow": TRAINER, "danie-narrow": "nnUNetTrainerDANIE"}


@pytest.fixture
def plan(workspace: Workspace) -> Callable[..., str]:
    """``plan(*settings, dataset=1, name="tiny", preset=...)``: what ``nnunet-sfma plan`` does, for a tiny network."""
    from nnunet_sfma.planning.make_plans import make_plans

    def make(*settings: str, dataset: int = 1, name: str = "tiny", preset: str = "sfmanet-narrow") -> str:
        make_plans(dataset, preset, [*TINY_NETWORKS[preset], *SHORT_RECIPE, *settings], name=name)
        return name

    return make


@pytest.fixture
def train(workspace: Workspace) -> Callable[..., Path]:
    """``train(plans, fold=0, dataset=1, **options)``: what ``nnUNetv2_train`` does; returns the fold's folder."""
    from nnunetv2.run.run_training import run_training

    def run(plans: str, fold: int | str = 0, dataset: int = 1, trainer: str = TRAINER, **options) -> Path:
        run_training(str(dataset), "2d", fold, trainer, plans, device=torch.device("cpu"), **options)
        name = workspace.plain if dataset == 1 else workspace.regions
        return workspace.results / name / f"{trainer}__{plans}__2d" / f"fold_{fold}"

    return run


@pytest.fixture
def train_only(workspace: Workspace) -> Callable[..., Path]:
    """``train_only(plans, continue_training=False)``: what ``nnUNetv2_train`` does of fold 0 before it validates."""
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    def run(plans: str, continue_training: bool = False) -> Path:
        trainer = get_trainer_from_args("1", "2d", 0, TRAINER, plans, continue_training, torch.device("cpu"))
        maybe_load_checkpoint(trainer, continue_training, False)
        trainer.run_training()
        return Path(trainer.output_folder)

    return run


def read_checkpoint(path: Path) -> dict:
    """A checkpoint's content."""
    return torch.load(path, map_location="cpu", weights_only=False)
