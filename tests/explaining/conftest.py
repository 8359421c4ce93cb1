"""Both networks, trained for one short epoch, and their maps' surroundings."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import SHORT_RECIPE, TINY_NETWORKS, Workspace
from tests.forked_workers import fork_workers
from tests.trainers.conftest import TRAINERS


@pytest.fixture(scope="session")
def trained(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with fold 0 of SFMANet and of DANIE; not to be written to."""
    from nnunetv2.run.run_training import get_trainer_from_args

    from nnunet_sfma.planning.make_plans import make_plans

    workspace = Workspace(tmp_path_factory.mktemp("explaining") / "workspace")
    shutil.copytree(prepared.root, workspace.root)
    with pytest.MonkeyPatch.context() as patch:
        workspace.point_to_it(patch)
        patch.setenv("nnUNet_n_proc_DA", "0")
        fork_workers(patch)
        for preset, trainer in TRAINERS.items():
            settings = [*TINY_NETWORKS[preset], *SHORT_RECIPE, "training.num_epochs=1"]
            make_plans(1, preset, settings, name=preset)
            get_trainer_from_args("1", "2d", 0, trainer, preset, device=torch.device("cpu")).run_training()
    return workspace


@pytest.fixture
def models(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace, with nnU-Net's variables pointing to it."""
    trained.point_to_it(monkeypatch)
    return trained


def model_folder(workspace: Workspace, preset: str) -> Path:
    """Of the network trained with the preset."""
    return workspace.results / workspace.plain / f"{TRAINERS[preset]}__{preset}__2d"
