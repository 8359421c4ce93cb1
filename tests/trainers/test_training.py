"""Training, validation, prediction and sharing by nnU-Net's own functions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_sfma.errors import UserError
from tests.trainers.conftest import TRAINERS, read_checkpoint


def predict(model: Path, images: Path, target: Path, fold: int | str = 0) -> None:
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (fold,))
    predictor.predict_from_files(
        str(images), str(target), num_processes_preprocessing=1, num_processes_segmentation_export=1
    )


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.mark.parametrize("preset", TRAINERS)
def test_cross_validation_sharing_and_prediction(workspace, plan, train, tmp_path, monkeypatch, preset):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder2
    from nnunetv2.evaluation.find_best_configuration import (
        accumulate_cv_results,
        dumb_trainer_config_plans_to_trained_models_dict,
        find_best_configuration,
    )
    from nnunetv2.model_sharing.model_export import export_pretrained_model
    from nnunetv2.model_sharing.model_import import install_model_from_zip_file

    plans, trainer = plan("training.num_epochs=2", preset=preset), TRAINERS[preset]
    for fold in (0, 1):
        folder = train(plans, fold, trainer=trainer, export_validation_probabilities=True)
        assert (folder / "validation" / "summary.json").is_file()
        assert list((folder / "validation").glob("*.npz"))
        assert sorted(path.name for path in folder.glob("checkpoint_*")) == [
            "checkpoint_best.pth",
            "checkpoint_final.pth",
        ]
    model = folder.parent
    accumulate_cv_results(str(model), str(tmp_path / "crossval"), folds=(0, 1), num_processes=1)
    assert json.loads((tmp_path / "crossval" / "summary.json").read_text())["foreground_mean"]
    models = dumb_trainer_config_plans_to_trained_models_dict([trainer], ["2d"], [plans])
    best = find_best_configuration(1, models, allow_ensembling=False, num_processes=1, folds=(0, 1))
    assert best["best_model_or_ensemble"]["selected_model_or_models"][0]["trainer"] == trainer

    raw = workspace.raw / workspace.plain
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(raw / "imagesTr" / "case_3_0000.nii.gz", images)
    predict(model, images, tmp_path / "before")
    predicted = sitk.ReadImage(str(tmp_path / "before" / "case_3.nii.gz"))
    original = sitk.ReadImage(str(images / "case_3_0000.nii.gz"))
    assert predicted.GetOrigin() == original.GetOrigin()
    assert predicted.GetSpacing() == original.GetSpacing()
    # NIfTI keeps a rotation as three float32 numbers, so ITK's own next copy differs in the eighth digit
    assert predicted.GetDirection() == pytest.approx(original.GetDirection(), abs=1e-7)
    files = [str(tmp_path / "before" / name) for name in ("dataset.json", "plans.json")]
    compute_metrics_on_folder2(
        str(raw / "labelsTr"), str(tmp_path / "before"), *files, str(tmp_path / "m.json"), num_processes=1, chill=True
    )
    assert "Dice" in (tmp_path / "m.json").read_text()

    export_pretrained_model(1, str(tmp_path / "model.zip"), ("2d",), trainer, plans, (0,))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "empty_results"))
    (tmp_path / "empty_results").mkdir()
    install_model_from_zip_file(str(tmp_path / "model.zip"))
    installed = tmp_path / "empty_results" / model.parent.name / model.name
    predict(installed, images, tmp_path / "after")
    assert np.array_equal(voxels(tmp_path / "before" / "case_3.nii.gz"), voxels(tmp_path / "after" / "case_3.nii.gz"))


@pytest.mark.parametrize("preset", TRAINERS)
def test_regions_ignore_label_and_two_channels(workspace, plan, train, tmp_path, preset):
    folder = train(plan("training.num_epochs=1", dataset=2, preset=preset), "all", dataset=2, trainer=TRAINERS[preset])
    summary = json.loads((folder / "validation" / "summary.json").read_text())
    assert set(summary["mean"]) == {"(1, 2)", "2"}
    log = read_checkpoint(folder / "checkpoint_final.pth")["logging"]
    assert 0 <= log["train_dice"][0] <= 1

    images = tmp_path / "one_channel"
    images.mkdir()
    shutil.copy(workspace.raw / workspace.regions / "imagesTr" / "case_0_0000.nii.gz", images)
    with pytest.raises(UserError, match="has 1 channels, the model was planned for 2: .* _0000 to _0001"):
        predict(folder.parent, images, tmp_path / "out", "all")
    assert not list((tmp_path / "out").glob("*.nii.gz"))


@pytest.mark.parametrize("preset", TRAINERS)
def test_validation_only_and_pretrained_weights_from_other_labels(workspace, plan, train, preset):
    plans, trainer = plan("training.num_epochs=1", preset=preset), TRAINERS[preset]
    folder = train(plans, trainer=trainer)
    final = folder / "checkpoint_final.pth"
    written = final.stat().st_mtime_ns
    shutil.rmtree(folder / "validation")
    train(plans, trainer=trainer, only_run_validation=True)
    assert (folder / "validation" / "summary.json").is_file()
    assert final.stat().st_mtime_ns == written

    description = workspace.preprocessed / workspace.plain / "dataset.json"
    content = json.loads(description.read_text())
    content["labels"]["other"] = 2
    description.write_text(json.dumps(content))
    still = ("training.num_epochs=1", "training.initial_lr=1e-12")
    other = train(plan(*still, name="more", preset=preset), trainer=trainer, pretrained_weights=str(final))
    before = read_checkpoint(final)["network_weights"]
    after = read_checkpoint(other / "checkpoint_final.pth")["network_weights"]
    heads = {name for name in after if ".seg_layers." in name}
    assert {name for name in after if after[name].shape != before[name].shape} == heads
    trained = [name for name, _ in read_checkpoint_parameters(other)]
    moved = [name for name in trained if name not in heads and not torch.allclose(after[name], before[name], atol=1e-6)]
    assert trained and not moved


def read_checkpoint_parameters(folder: Path) -> list[tuple[str, torch.Tensor]]:
    """The weights that an optimiser moves: no statistics, no permutations."""
    weights = read_checkpoint(folder / "checkpoint_final.pth")["network_weights"]
    skipped = ("running_mean", "running_var", "num_batches_tracked", "order")
    return [(name, value) for name, value in weights.items() if not name.endswith(skipped)]


@pytest.mark.parametrize("dataset, slices", [(1, "all"), (1, "lesion"), (2, "lesion")])
def test_one_pass_counts_the_training_slices(workspace, plan, train, dataset, slices):
    one_pass = ("training.num_epochs=1", "training.iterations_per_epoch=one_pass", "batch_size=3")
    folder = train(plan(*one_pass, f"training.slices={slices}", dataset=dataset), dataset=dataset)
    name = workspace.plain if dataset == 1 else workspace.regions
    split = json.loads((workspace.preprocessed / name / "splits_final.json").read_text())[0]
    labels = [voxels(workspace.raw / name / "labelsTr" / f"{case}.nii.gz") for case in split["train"]]
    counted = [np.isin(label, (1, 2)).any((1, 2)) if slices == "lesion" else np.ones(5) for label in labels]
    expected = int(sum(slices_of_case.sum() for slices_of_case in counted))
    log = next(folder.glob("training_log_*.txt")).read_text()
    assert f"An epoch has {-(-expected // 3)} training and" in log


def test_no_augmentation_and_no_mirroring(plan, train):
    folder = train(plan("training.num_epochs=1", "training.augmentation=none", "training.test_time_mirroring=false"))
    assert read_checkpoint(folder / "checkpoint_final.pth")["inference_allowed_mirroring_axes"] is None


@pytest.mark.parametrize("schedule, optimizer", [("poly", "SGD"), ("constant", "AdamW")])
def test_other_schedules(plan, train, schedule, optimizer):
    changes = (f"training.lr_schedule={schedule}", f"training.optimizer={optimizer}")
    folder = train(plan("training.num_epochs=3", *changes))
    rates = read_checkpoint(folder / "checkpoint_final.pth")["logging"]["lrs"]
    wanted = [1e-3 * (1 - epoch / 3) ** 0.9 if schedule == "poly" else 1e-3 for epoch in range(3)]
    assert np.allclose(rates, wanted)


@pytest.mark.parametrize("preset", TRAINERS)
def test_network_as_nnunet_builds_it_compiles_to_one_graph(workspace, plan, preset):
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe

    plans = PlansManager(str(workspace.preprocessed / workspace.plain / f"{plan(preset=preset)}.json"))
    network = nnUNetTrainerRecipe.build_network_architecture(plans, plans.get_configuration("2d"), 1, 2, False).eval()
    image = torch.randn(2, 1, 32, 40)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(image), network(image), atol=1e-5)
    assert not any("hook" in name for name in network.state_dict())
