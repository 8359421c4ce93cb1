"""Checkpoints of earlier versions: the same voxels, and a training that goes on.

``checkpoints_before_plain_networks`` holds a model folder of each network: 30 steps of ``nnUNetv2_train`` on data set 1
of the tests' workspace, stopped after the first of two epochs, by the version whose units computed merged layers
(commit acb4bf8). To fit here, weights are rounded to bfloat16's numbers before anything is predicted, and of the
optimisers' moments all but those of ``sfmanet`` are zero. ``logits.npy`` is what that version's network gave for the
preprocessed image, in which no gate comes close to its threshold; ``predicted.nii.gz`` is what ``nnunet-sfma predict``
wrote.
"""

import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from nnunet_sfma.prediction.__main__ import main
from tests.conftest import Workspace

STORED = Path(__file__).with_name("checkpoints_before_plain_networks")
MODELS = sorted(path.name for path in STORED.glob("nnUNetTrainer*"))
IMAGE = STORED / "images" / "case_0000.nii.gz"
LATEST = "checkpoint_latest.pth"


def restore(name: str, results: Path) -> Path:
    """The model folder, its checkpoint unpacked, in an ``nnUNet_results``."""
    stored = STORED / name
    model = results / "Dataset001_Plain" / name
    shutil.copytree(stored, model, ignore=shutil.ignore_patterns("*.xz", "logits.npy", "predicted.nii.gz"))
    (model / "fold_0" / LATEST).write_bytes(lzma.decompress((stored / "fold_0" / f"{LATEST}.xz").read_bytes()))
    return model


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("nnUNet_npp", "nnUNet_nps"):  # in this process: starting others takes longer than all the rest
        monkeypatch.setenv(name, "0")
    return tmp_path / "nnUNet_results"


def test_one_of_each_network_is_kept():
    assert [name.split("__")[1] for name in MODELS] == ["danie", "sfmanet", "sfmanet_without_dmau"]


@pytest.mark.parametrize("name", MODELS)
def test_predict_gives_the_same_voxels(name: str, results: Path, tmp_path: Path):
    restore(name, results)
    trainer, plans, configuration = name.split("__")
    model = ["-d", "1", "-tr", trainer, "-p", plans, "-c", configuration, "-f", "0", "-chk", LATEST]
    main([*model, "-i", str(IMAGE.parent), "-o", str(tmp_path / "out"), "-device", "cpu"])
    found, expected = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for path in (tmp_path / "out" / "case.nii.gz", STORED / name / "predicted.nii.gz")
    )
    assert 0.1 < expected.mean() < 0.5 and np.array_equal(found, expected)


@pytest.mark.parametrize("name", MODELS)
def test_nnunets_predictor_builds_a_network_of_the_same_logits(name: str, results: Path):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(restore(name, results)), (0,), LATEST)
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    configuration = predictor.configuration_manager
    image, *_ = configuration.preprocessor_class().run_case(
        [str(IMAGE)], None, predictor.plans_manager, configuration, predictor.dataset_json
    )
    with torch.inference_mode():
        found = predictor.network.eval()(torch.from_numpy(image).transpose(0, 1)).numpy()
    expected = np.load(STORED / name / "logits.npy")
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", MODELS)
def test_training_goes_on(name: str, workspace: Workspace):
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    model = restore(name, workspace.results)
    trainer_name, plans, configuration = name.split("__")
    shutil.copy(model / "plans.json", workspace.preprocessed / workspace.plain / f"{plans}.json")
    kept = torch.load(model / "fold_0" / LATEST, weights_only=False)
    trainer = get_trainer_from_args("1", configuration, 0, trainer_name, plans, True, torch.device("cpu"))
    maybe_load_checkpoint(trainer, True, False)
    names = [name for name, _ in trainer.network.named_parameters()]  # optimisers know their moments by this order
    assert names == [name for name in kept["network_weights"] if name in set(names)]
    moments = trainer.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[i]["exp_avg"], of["exp_avg"]) for i, of in kept["optimizer_state"]["state"].items())
    trainer.num_iterations_per_epoch = 6
    trainer.run_training()
    final = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert final["network_weights"].keys() == kept["network_weights"].keys() and final["current_epoch"] == 2
    losses = final["logging"]["train_losses"]
    assert losses[:1] == kept["logging"]["train_losses"] and losses[1] < losses[0]
