"""The two real ISLES cases from the download to a prediction."""

import os
from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from nnunet_sfma.cli import main
from tests.conftest import SHORT_RECIPE, TINY_NETWORKS, Workspace, plan_and_preprocess
from tests.trainers.conftest import TRAINER

REAL_DATA = os.environ.get("NNUNET_SFMA_REAL_DATA", "")


@pytest.mark.skipif(not REAL_DATA, reason="NNUNET_SFMA_REAL_DATA is not set")
def test_isles_from_the_release_to_a_prediction_on_the_very_grid_of_its_image(tmp_path, monkeypatch):
    from nnunetv2.run.run_training import run_training

    workspace = Workspace(tmp_path)
    for name, folder in workspace.environment.items():
        Path(folder).mkdir()
        monkeypatch.setenv(name, folder)
    main(["convert", "isles2022", str(Path(REAL_DATA) / "isles2022"), "-d", "501", "--modality", "dwi+adc"])
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    plan_and_preprocess([501])
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    changes = ["training.num_epochs=1", "training.test_time_mirroring=false", *TINY_NETWORKS, *SHORT_RECIPE]
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
