"""What users would pick instead of our networks, by the same commands and the same recipe."""

import json
import sys

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from nnunet_sfma.presets import load_preset
from tests.conftest import SHORT_RECIPE

TRAINER = "nnUNetTrainerPeer"
UNETS = "dynamic_network_architectures.architectures.unet"


@pytest.fixture
def base(workspace) -> dict:
    return read(workspace, "nnUNetPlans")


def read(workspace, name: str) -> dict:
    """The 2d configuration of plans."""
    path = workspace.preprocessed / workspace.plain / f"{name}.json"
    return json.loads(path.read_text())["configurations"]["2d"]


def plan(preset: str, *settings: str, base: str = "nnUNetPlans") -> None:
    main(
        [
            "plan",
            "-d",
            "1",
            "--preset",
            preset,
            "-p",
            base,
            "--name",
            "tiny",
            "--set",
            "training.num_epochs=1",
            *settings,
        ]
    )


def make_trainer(plans: str = "tiny", name: str = TRAINER):
    return get_trainer_from_args("1", "2d", 0, name, plans, device=torch.device("cpu"))


def narrow(base: dict) -> str:
    return f"architecture.features_per_stage={[8] * base['architecture']['arch_kwargs']['n_stages']}"


def train_and_predict(workspace, tmp_path, plans: str = "tiny") -> dict:
    """One epoch and the prediction of a case; returns the plans that were saved with the model."""
    make_trainer(plans).run_training()
    model = workspace.results / workspace.plain / f"{TRAINER}__{plans}__2d"
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    images = [[str(workspace.raw / workspace.plain / "imagesTr" / "case_3_0000.nii.gz")]]
    (tmp_path / "predicted").mkdir()
    predictor.predict_from_files_sequential(images, str(tmp_path / "predicted"))
    assert (tmp_path / "predicted" / "case_3.nii.gz").is_file()
    return json.loads((model / "plans.json").read_text())["configurations"]["2d"]


def test_peer_is_planned_trained_and_predicts(workspace, tmp_path, capsys):
    pytest.importorskip("monai")
    plan("peer-attention-unet", "architecture.features_per_stage=[8,16,16]", *SHORT_RECIPE)
    printed = capsys.readouterr().out
    assert f"nnUNetv2_train 1 2d FOLD -tr {TRAINER} -p tiny" in printed and "Estimated training memory" in printed
    saved = train_and_predict(workspace, tmp_path)
    assert saved["architecture"]["network_class_name"].endswith(".AttentionUNet")
    assert saved["architecture"]["arch_kwargs"] == {"features_per_stage": [8, 16, 16]}


def test_nnunets_own_network_is_planned_trained_and_predicts(workspace, base, tmp_path):
    plan("peer-nnunet", narrow(base), *SHORT_RECIPE)
    saved = train_and_predict(workspace, tmp_path)
    assert saved["architecture"]["network_class_name"] == f"{UNETS}.PlainConvUNet"
    kwargs = base["architecture"]["arch_kwargs"]
    assert saved["architecture"]["arch_kwargs"] == {**kwargs, "features_per_stage": [8] * kwargs["n_stages"]}
    assert saved["training"]["optimizer"] == "Adam"


def test_nnunets_own_plans_get_the_recipe_of_sfmanet(workspace, base, capsys):
    trainer = make_trainer("nnUNetPlans")
    assert "name no recipe of ours: it comes from the preset 'peer-nnunet'" in capsys.readouterr().out
    configuration = trainer.configuration_manager.configuration
    assert configuration["architecture"] == base["architecture"]
    assert configuration["training"] == load_preset("sfmanet").training
    assert configuration["batch_size"] == base["batch_size"]


def test_residual_encoder_is_that_of_the_base_plans(workspace, monkeypatch):
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

    monkeypatch.setenv("nnUNet_n_proc_DA", "1")  # nnU-Net's planner sets torch to so many threads
    plan_experiments([1], "nnUNetPlannerResEncM")
    plan("peer-nnunet", base="nnUNetResEncUNetMPlans")
    planned, own = read(workspace, "tiny"), read(workspace, "nnUNetResEncUNetMPlans")
    assert planned["architecture"] == own["architecture"]
    assert planned["architecture"]["network_class_name"] == f"{UNETS}.ResidualEncoderUNet"
    assert planned["training"] == {**load_preset("sfmanet").training, "num_epochs": 1}


@pytest.mark.parametrize("network", ["PlainConvUNet", "peer"])
def test_all_that_is_not_frozen_gets_a_gradient(workspace, base, network):
    if network == "peer":
        pytest.importorskip("monai")
        plan("peer-unetpp", "architecture.features_per_stage=[4,4,4,4,4]")
    else:
        plan("peer-nnunet", narrow(base))
    trainer = make_trainer()
    trainer.initialize()
    image = torch.randn(2, 1, *trainer.configuration_manager.patch_size)
    output = trainer.network(image)
    assert output.shape == (2, 2, *image.shape[2:])
    output.square().mean().backward()
    trained = {name for name, p in trainer.network.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in trainer.network.named_parameters() if p.grad is not None}
    frozen = {name for name, _ in trainer.network.named_parameters()} - trained
    heads = base["architecture"]["arch_kwargs"]["n_stages"] - 2 if network == "PlainConvUNet" else 0
    assert len(frozen) == 2 * heads and all(".seg_layers." in name for name in frozen)


def test_network_belongs_to_its_patch(workspace):
    pytest.importorskip("monai")
    plan("peer-unetr", "patch_size=[17,30]")
    assert read(workspace, "tiny")["architecture"]["arch_kwargs"]["image_size"] == [17, 30]


@pytest.mark.parametrize(
    "preset, settings, sentence",
    [
        ("peer-nnunet", ["patch_size=[40,36]"], r"multiples of \[8, 8\] and more than that, got \[40, 36\]"),
        ("peer-nnunet", ["patch_size=[16,16]", "architecture.strides=[[1,1],[2,2],[4,4],[2,2]]"], r"got \[16, 16\]"),
        ("peer-nnunet", ["architecture.features_per_stag=[8]"], "did you mean architecture.features_per_stage"),
        ("peer-attention-unet", ["architecture.features_per_stage=8"], "two or more whole numbers"),
        ("peer-swinunetr", ["architecture.window_size=big"], "window_size is like 7"),
        ("peer-unetr", ["architecture.image_size=[64,64]"], "there is no key"),
    ],
)
def test_plans_that_do_not_fit_end_in_one_sentence(workspace, preset, settings, sentence):
    if preset != "peer-nnunet":
        pytest.importorskip("monai")
    with pytest.raises(UserError, match=sentence):
        plan(preset, *settings)
    assert not (workspace.preprocessed / workspace.plain / "tiny.json").exists()


def test_base_plans_without_a_network_of_nnunets_own_are_refused(workspace):
    main(["plan", "-d", "1", "--preset", "sfmanet-narrow"])
    with pytest.raises(UserError, match="'sfmanet-narrow' do not hold a network of nnU-Net's own"):
        plan("peer-nnunet", base="sfmanet-narrow")


@pytest.mark.parametrize(
    "preset, trainer, sentence",
    [
        ("peer-nnunet", "nnUNetTrainerSFMANet", "describe PlainConvUNet, which nnUNetTrainerSFMANet does not train"),
        ("peer-nnunet", "nnUNetTrainerDANIE", "describe PlainConvUNet, which nnUNetTrainerDANIE_L does not train"),
        ("peer-unet", TRAINER, "describe SFMANet, which nnUNetTrainerPeer does not train"),
    ],
)
def test_trainers_refuse_each_others_networks(workspace, preset, trainer, sentence):
    plan(preset)
    with pytest.raises(UserError, match=sentence):
        make_trainer(name=trainer)
    assert not list(workspace.results.iterdir())


def test_foreign_plans_without_a_recipe_are_refused(workspace):
    path = workspace.preprocessed / workspace.plain / "nnUNetPlans.json"
    path.write_text(path.read_text().replace(f"{UNETS}.PlainConvUNet", "some.Network"))
    with pytest.raises(UserError, match="describe another network, some.Network"):
        make_trainer("nnUNetPlans")


def test_without_monai_plan_and_trainer_say_what_to_install(workspace, monkeypatch):
    for name in ("monai", "monai.networks", "monai.networks.nets"):
        monkeypatch.setitem(sys.modules, name, None)
    sentence = r"^UNETR needs MONAI: pip install 'nnunet-sfma\[peers\]'\.$"
    with pytest.raises(UserError, match=sentence):
        plan("peer-unetr")
    path = workspace.preprocessed / workspace.plain / "tiny.json"
    assert not path.exists()

    plan("peer-nnunet")
    plans = json.loads(path.read_text())
    plans["configurations"]["2d"]["architecture"] = load_preset("peer-unetr").architecture
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["image_size"] = [40, 32]
    path.write_text(json.dumps(plans))
    with pytest.raises(UserError, match=sentence):
        make_trainer()
    assert not list(workspace.results.iterdir())
