"""Two models with plans of their own, ensembled and chosen by nnU-Net's function."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle, save_pickle

from nnunet_sfma.crossval import ensembles
from nnunet_sfma.crossval.models import Model, find_models, keep_split_and_plans
from nnunet_sfma.crossval.results import Accumulation
from tests.conftest import Workspace
from tests.trainers.conftest import TRAINER

CASES = {0: ("case_0", "case_1"), 1: ("case_3", "case_4", "case_5")}
ARGUMENTS = ["-d", "1", "-tr", TRAINER, "nnUNetTrainerDANIE", "-p", "tiny", "other", "-f", "0", "1", "-np", "1"]


@pytest.fixture
def models(two_folds: Workspace, plan) -> list[Model]:
    """Two models that are both wrong, each surely in the half of the slices in which the other is hardly right."""
    plan(name="other", preset="danie-narrow")
    found = find_models(1, [TRAINER, "nnUNetTrainerDANIE"], ["tiny", "other"], "2d")
    for half, model in enumerate(found):
        keep_split_and_plans(model)
        (model.folder / "crossval_results_folds_0_1").mkdir(parents=True)
        shutil.copy(model.preprocessed / "dataset.json", model.folder)
        shutil.copy(model.preprocessed / f"{model.plans}.json", model.folder / "plans.json")
        for fold, cases in CASES.items():
            (model.folder / f"fold_{fold}" / "validation").mkdir(parents=True)
            torch.save({"network_weights": {}}, model.folder / f"fold_{fold}" / "checkpoint_final.pth")
            (model.folder / f"fold_{fold}" / "validation" / "summary.json").write_text("{}")
            for case in cases:
                predict(model, fold, case, half)
        accumulated = model.folder / "crossval_results_folds_0_1"
        summary = {"mean": {}, "metric_per_case": [], "foreground_mean": {"Dice": 0.5}}
        (accumulated / "summary.json").write_text(json.dumps(summary))
        (accumulated / "postprocessing.pkl").write_text("kept")
    return found


def predict(model: Model, fold: int, case: str, half: int) -> None:
    validation = model.folder / f"fold_{fold}" / "validation"
    label = sitk.ReadImage(str(model.preprocessed / "gt_segmentations" / f"{case}.nii.gz"))
    lesion = sitk.GetArrayFromImage(label) == 1
    foreground = np.where(lesion, 0.9, 0.1)
    foreground[half::2] = np.where(lesion, 0.4, 0.6)[half::2]
    np.savez(validation / f"{case}.npz", probabilities=np.stack([1 - foreground, foreground]).astype(np.float16))
    save_pickle(load_pickle(str(model.preprocessed / "nnUNetPlans_2d" / f"{case}.pkl")), validation / f"{case}.pkl")
    predicted = sitk.GetImageFromArray((foreground > 0.5).astype(np.uint8))
    predicted.CopyInformation(label)
    for folder in (validation, model.folder / "crossval_results_folds_0_1"):
        sitk.WriteImage(predicted, str(folder / f"{case}.nii.gz"))


def test_pair_with_plans_of_their_own(models, capsys):
    stale = models[0].folder.parent / "ensembles"
    ensembles.main(ARGUMENTS)
    printed = capsys.readouterr().out
    (ensemble,) = stale.iterdir()
    for cases in CASES.values():
        for case in cases:
            label = models[0].preprocessed / "gt_segmentations" / f"{case}.nii.gz"
            made = sitk.GetArrayFromImage(sitk.ReadImage(str(ensemble / f"{case}.nii.gz")))
            assert np.array_equal(made, sitk.GetArrayFromImage(sitk.ReadImage(str(label))))
    assert json.loads((ensemble / "summary.json").read_text())["foreground_mean"]["Dice"] == 1
    information = json.loads((models[0].folder.parent / "inference_information.json").read_text())
    chosen = information["best_model_or_ensemble"]["selected_model_or_models"]
    assert [(one["trainer"], one["plans_identifier"]) for one in chosen] == [
        (TRAINER, "tiny"),
        ("nnUNetTrainerDANIE", "other"),
    ]
    assert "nnUNetv2_ensemble -i OUTPUT_FOLDER_MODEL_1 OUTPUT_FOLDER_MODEL_2" in printed
    for model in models:
        assert (model.folder / "crossval_results_folds_0_1" / "postprocessing.pkl").read_text() == "kept"


def test_what_has_to_be_there_is_said(models):
    with pytest.raises(SystemExit, match="An ensemble needs two models"):
        ensembles.main(["-d", "1", "-tr", TRAINER, "-p", "tiny"])
    (models[1].folder / "fold_1" / "validation" / "case_4.npz").unlink()
    sentence = "nnUNetTrainerDANIE other is not finished, or lacks .*: give nnunet-sfma crossval -d 1 .* --npz first"
    with pytest.raises(SystemExit, match=sentence):
        ensembles.main(ARGUMENTS)
    assert not (models[0].folder.parent / "ensembles").exists()


def test_crossval_prints_this_command(models):
    """What crossval prints leads to exactly these models and folds."""
    words = ensembles.command(models, (0, 1)).split()
    assert words[:3] == ["python", "-m", "nnunet_sfma.crossval.ensembles"]
    assert [word for word in words[3:] if word not in ("-c", "2d")] == ARGUMENTS[:-2]
    assert all(not Accumulation(model, (0, 1), 1).commands() for model in models)
