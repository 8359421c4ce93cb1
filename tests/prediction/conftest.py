"""A tiny model of two folds, and images that are larger and smaller than its patch."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from tests.conftest import TINY_NETWORKS, Workspace

TRAINER, PLANS = "nnUNetTrainerSFMANet", "tiny"
RECIPE = ["training.num_epochs=1", "training.iterations_per_epoch=20", "training.val_iterations_per_epoch=1"]
SHAPES = {"as_large": (1, 40, 32), "larger": (2, 70, 40), "smaller": (3, 24, 20)}


@pytest.fixture(scope="session")
def trained_once(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with test images of data set 2, of whose folds two are trained for an epoch, two regions each."""
    from nnunetv2.run.run_training import get_trainer_from_args

    from nnunet_sfma.planning.make_plans import make_plans

    copy = Workspace(tmp_path_factory.mktemp("trained"))
    shutil.copytree(prepared.root, copy.root, dirs_exist_ok=True)
    _write_images(copy)
    with pytest.MonkeyPatch.context() as patch:
        _point_to(copy, patch)
        network = [*TINY_NETWORKS["sfmanet-narrow"], "training.initial_lr=0.01", "batch_size=4"]
        make_plans(2, "sfmanet-narrow", [*network, *RECIPE], name=PLANS)
        for fold in (0, 1):
            torch.manual_seed(fold)
            np.random.seed(fold)
            get_trainer_from_args("2", "2d", fold, TRAINER, PLANS, False, torch.device("cpu")).run_training()
    return copy


@pytest.fixture
def trained(trained_once: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace, with nnU-Net's variables pointing to it."""
    _point_to(trained_once, monkeypatch)
    return trained_once


def _point_to(workspace: Workspace, patch: pytest.MonkeyPatch) -> None:
    workspace.point_to_it(patch)
    # without processes: starting them takes longer than all the rest
    for name in ("nnUNet_n_proc_DA", "nnUNet_npp", "nnUNet_nps"):
        patch.setenv(name, "0")


def model_of(trained: Workspace) -> Path:
    return trained.results / trained.regions / f"{TRAINER}__{PLANS}__2d"


def images_of(trained: Workspace) -> Path:
    return trained.raw / trained.regions / "imagesTs"


def _write_images(workspace: Workspace) -> None:
    """Slices of a training image as they are, repeated, and cut off; the patch is 40 x 32."""
    images_of(workspace).mkdir()
    for channel in range(2):
        path = workspace.raw / workspace.regions / "imagesTr" / f"case_0_{channel:04d}.nii.gz"
        original = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(original)
        for case, (slices, rows, columns) in SHAPES.items():
            image = sitk.GetImageFromArray(np.tile(array, (1, 2, 2))[1:][:slices, :rows, :columns])
            image.SetSpacing(original.GetSpacing())
            sitk.WriteImage(image, str(images_of(workspace) / f"{case}_{channel:04d}.nii.gz"))


def copy_model(workspace: Workspace, results: Path, file_ending: str = ".nii.gz", reader: str = "SimpleITKIO") -> Path:
    """The model in another ``nnUNet_results``, to be changed, for images of another kind."""
    model = Path(shutil.copytree(model_of(workspace), results / workspace.regions / model_of(workspace).name))
    for name, key, value in (("dataset", "file_ending", file_ending), ("plans", "image_reader_writer", reader)):
        path = model / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    return model


def copy_images(workspace: Workspace, folder: Path) -> Path:
    """The test images in another folder, to be changed."""
    return Path(shutil.copytree(images_of(workspace), folder))


def write_masks(paths: Sequence[Path], images: Path) -> None:
    """Empty masks of the images, in place of predictions."""
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        image = sitk.ReadImage(str(images / path.name.replace(".nii.gz", "_0000.nii.gz")))
        sitk.WriteImage(sitk.Cast(image * 0, sitk.sitkUInt8), str(path))
