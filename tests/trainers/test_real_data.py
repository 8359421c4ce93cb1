"""Real images from the download to a prediction: ISLES volumes, hippocampus volumes, dermoscopic photographs."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from dataset_conversion.cases import Case
from dataset_conversion.common import write_dataset
from nnunet_sfma.cli import main
from tests.conftest import SHORT_RECIPE, TINY_NETWORKS, Workspace, plan_and_preprocess
from tests.forked_workers import fork_workers
from tests.trainers.conftest import TRAINER, TRAINERS
from tests.trainers.test_training import predict, voxels

REAL_DATA = os.environ.get("NNUNET_SFMA_REAL_DATA", "")


pytestmark = pytest.mark.skipif(not REAL_DATA, reason="NNUNET_SFMA_REAL_DATA is not set")


def empty_workspace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    workspace = Workspace(folder)
    for name, path in workspace.environment.items():
        Path(path).mkdir()
        monkeypatch.setenv(name, path)
    fork_workers(monkeypatch)
    return workspace


def test_isles_from_the_release_to_a_prediction_on_the_very_grid_of_its_image(tmp_path, monkeypatch):
    from nnunetv2.run.run_training import run_training

    workspace = empty_workspace(tmp_path, monkeypatch)
    main(["convert", "isles2022", str(Path(REAL_DATA) / "isles2022"), "-d", "501", "--modality", "dwi+adc"])
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    plan_and_preprocess([501])
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    changes = [
        "training.num_epochs=1",
        "training.test_time_mirroring=false",
        *TINY_NETWORKS["sfmanet-narrow"],
        *SHORT_RECIPE,
    ]
    main(["plan", "-d", "501", "--preset", "sfmanet-narrow", "--set", *changes])
    run_training("501", "2d", "all", TRAINER, "sfmanet-narrow", device=torch.device("cpu"))
    dataset = "Dataset501_ISLES2022_DWI_ADC"
    model = workspace.results / dataset / f"{TRAINER}__sfmanet-narrow__2d"
    predictions = sorted((model / "fold_all" / "validation").glob("*.nii.gz"))
    assert len(predictions) == 2
    for path in predictions:
        image = workspace.raw / dataset / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz")
        predicted, original = sitk.ReadImage(str(path)), sitk.ReadImage(str(image))
        assert predicted.GetSize() == original.GetSize()
        assert predicted.GetOrigin() == original.GetOrigin()
        assert predicted.GetSpacing() == original.GetSpacing()
        assert predicted.GetDirection() == original.GetDirection()


def isic(case: str) -> tuple[list[sitk.Image], sitk.Image]:
    folder = Path(REAL_DATA) / "isic2018_256px"
    image = sitk.ReadImage(str(folder / "ISIC2018_Task1-2_Training_Input" / f"{case}.jpg"))
    mask = sitk.ReadImage(str(folder / "ISIC2018_Task1_Training_GroundTruth" / f"{case}_segmentation.png"))
    return [image], sitk.Cast(mask > 127, sitk.sitkUInt8)


def write_isic(dataset_id: int) -> str:
    names = sorted(path.stem for path in (Path(REAL_DATA) / "isic2018_256px").glob("*Input/*.jpg"))[:6]
    cases = [Case(name, partial(isic, name)) for name in names]
    channels, labels = {"0": "R", "1": "G", "2": "B"}, {"background": 0, "lesion": 1}
    return write_dataset(dataset_id, "Skin", cases, channels, labels, file_ending=".png").name


def write_hippocampus(dataset_id: int) -> str:
    source = Path(REAL_DATA) / "hippocampus" / "Dataset004_Hippocampus"
    description = json.loads((source / "dataset.json").read_text())
    files = sorted((source / "labelsTr").glob("*.nii.gz"))[:6]
    cases = [
        Case.from_files(label.name[:-7], [source / "imagesTr" / label.name.replace(".nii", "_0000.nii")], label)
        for label in files
    ]
    channels = description["channel_names"]
    return write_dataset(dataset_id, "Hippocampus", cases, channels, description["labels"]).name


@pytest.mark.parametrize(
    "write, ending, foreground", [(write_isic, ".png", {"1"}), (write_hippocampus, ".nii.gz", {"1", "2"})]
)
def test_danie_on_photographs_and_on_several_classes(tmp_path, monkeypatch, write, ending, foreground):
    from nnunetv2.model_sharing.model_export import export_pretrained_model
    from nnunetv2.model_sharing.model_import import install_model_from_zip_file
    from nnunetv2.run.run_training import run_training

    workspace = empty_workspace(tmp_path, monkeypatch)
    dataset = write(600)
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    plan_and_preprocess([600])
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    changes = ["training.num_epochs=1", "training.test_time_mirroring=false"]
    main(
        [
            "plan",
            "-d",
            "600",
            "--preset",
            "danie-narrow",
            "--set",
            *changes,
            *TINY_NETWORKS["danie-narrow"],
            *SHORT_RECIPE,
        ]
    )
    trainer, plans = TRAINERS["danie-narrow"], "danie-narrow"
    run_training("600", "2d", 0, trainer, plans, device=torch.device("cpu"))
    model = workspace.results / dataset / f"{trainer}__{plans}__2d"
    summary = json.loads((model / "fold_0" / "validation" / "summary.json").read_text())
    assert set(summary["mean"]) == foreground
    images = tmp_path / "images"
    images.mkdir()
    first = sorted((workspace.raw / dataset / "imagesTr").iterdir())[0]
    shutil.copy(first, images)
    predict(model, images, tmp_path / "before")
    export_pretrained_model(600, str(tmp_path / "model.zip"), ("2d",), trainer, plans, (0,))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "elsewhere"))
    install_model_from_zip_file(str(tmp_path / "model.zip"))
    predict(tmp_path / "elsewhere" / dataset / model.name, images, tmp_path / "after")
    name = first.name.replace("_0000.", ".")
    assert name.endswith(ending)
    before, after = (voxels(tmp_path / folder / name) for folder in ("before", "after"))
    assert np.array_equal(before, after)
    assert before.shape == voxels(workspace.raw / dataset / "labelsTr" / name).shape
