"""``nnunet-sfma plan``: plans files beside nnU-Net's own."""

import json

import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from nnunet_sfma.presets import load_preset, preset_names


def read(workspace, name: str) -> dict:
    return json.loads((workspace.preprocessed / workspace.plain / f"{name}.json").read_text())


def test_plan_is_complete_and_shares_the_preprocessed_data(workspace, capsys):
    main(["plan", "-d", "1", "--preset", "sfmanet", "--set", "training.num_epochs=7", "architecture.iem_stages=3"])
    assert "nnUNetv2_train 1 2d FOLD -tr nnUNetTrainerSFMANet -p sfmanet" in capsys.readouterr().out
    configuration = read(workspace, "sfmanet")["configurations"]["2d"]
    own = read(workspace, "nnUNetPlans")["configurations"]["2d"]
    preset = load_preset("sfmanet")
    assert configuration["training"] == {**preset.training, "num_epochs": 7}
    assert configuration["architecture"]["arch_kwargs"] == {**preset.architecture["arch_kwargs"], "iem_stages": 3}
    assert configuration["batch_size"] == 16
    assert configuration["patch_size"] == own["patch_size"]
    assert configuration["data_identifier"] == own["data_identifier"]


def test_other_spacing_gets_its_own_data(workspace, capsys):
    main(["plan", "-d", "1", "--preset", "sfmanet", "--name", "coarse", "--set", "spacing=[2.0,2.0]"])
    assert "nnUNetv2_preprocess -d 1 -plans_name coarse -c 2d" in capsys.readouterr().out
    assert read(workspace, "coarse")["configurations"]["2d"]["data_identifier"] == "coarse_2d"


def test_nnunets_recipe_keeps_nnunets_batch_size(workspace):
    main(["plan", "-d", "1", "--preset", "sfmanet-nnunet"])
    own = read(workspace, "nnUNetPlans")["configurations"]["2d"]
    configuration = read(workspace, "sfmanet-nnunet")["configurations"]["2d"]
    assert configuration["batch_size"] == own["batch_size"]
    assert configuration["training"]["optimizer_kwargs"] == {"momentum": 0.99, "nesterov": True}
    assert configuration["training"]["lr_schedule_kwargs"] == {}


def test_uneven_patch_is_accepted_and_explained(workspace, capsys):
    main(["plan", "-d", "1", "--preset", "sfmanet", "--set", "patch_size=[17,300]"])
    assert "17 x 300 is padded to 32 x 304" in capsys.readouterr().out


def test_network_gets_the_windows_of_its_patch(workspace, capsys):
    main(["plan", "-d", "1", "--preset", "danie-s", "--set", "patch_size=[17,300]"])
    assert "17 x 300 is padded to 64 x 320" in capsys.readouterr().out
    configuration = read(workspace, "danie-s")["configurations"]["2d"]
    assert configuration["architecture"]["arch_kwargs"]["image_size"] == [17, 300]


def test_file_of_weights_is_found_from_any_folder(workspace, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    main(["plan", "-d", "1", "--preset", "danie-l", "--set", "training.pretrained=mine.pth"])
    training = read(workspace, "danie-l")["configurations"]["2d"]["training"]
    assert training["pretrained"] == str(tmp_path / "mine.pth")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["-d", "77", "--preset", "sfmanet"], "no data set with id 77"),
        (["-d", "Plain", "--preset", "sfmanet"], "'Plain' is no data set"),
        (["-d", "1", "--preset", "sfmanet-narow"], "did you mean sfmanet-narrow"),
        (["-d", "1", "--preset", "sfmanet", "--set", "training.num_epoch=1"], "did you mean training.num_epochs"),
        (["-d", "1", "--preset", "sfmanet", "--set", "training.num_epochs"], "write KEY=VALUE"),
        (["-d", "1", "--preset", "sfmanet", "--set", "training.num_epochs=many"], "must be a whole number, got 'many'"),
        (["-d", "1", "--preset", "sfmanet", "--set", "training.num_epochs=0"], "num_epochs is out of range"),
        (["-d", "1", "--preset", "sfmanet", "--set", "training.optimizer=Adma"], "must be 'Adam' or 'AdamW' or 'SGD'"),
        (["-d", "1", "--preset", "sfmanet", "--set", "training.initial_lr=-1"], "initial_lr is out of range"),
        (["-d", "1", "--preset", "sfmanet", "--set", "architecture.iem_stages=9"], "iem_stages lies between 0 and 4"),
        (["-d", "1", "--preset", "sfmanet", "--set", "architecture.iem_stages=1.5"], "iem_stages is like 4"),
        (["-d", "1", "--preset", "sfmanet", "--set", "architecture.fgu_groups=0"], "does not fit SFMANet"),
        (["-d", "1", "--preset", "peer-nnunet", "--set", "architecture.n_stages=2"], "does not fit PlainConvUNet"),
        (["-d", "1", "--preset", "peer-nnunet", "--set", "architecture.nonlin=torch.nn.Leakyrelu"], "no nonlin 'torch"),
        (["-d", "1", "--preset", "peer-nnunet", "--set", "architecture.conv_op=torch.nn.Conv3d"], "cannot compute|fit"),
        (["-d", "1", "--preset", "sfmanet", "--set", "spacing=wide"], "spacing must look like"),
        (["-d", "1", "--preset", "sfmanet", "--set", 'training.optimizer_kwargs={"bets":[0,0]}'], "did you mean betas"),
        (["-d", "1", "--preset", "sfmanet", "--set", 'training.lr_schedule_kwargs={"mode":"min"}'], "does not take"),
        (["-d", "1", "--preset", "sfmanet", "--set", "patch_size=[8,64]"], "two whole numbers of at least 16"),
        (["-d", "1", "--preset", "sfmanet", "--set", "batch_size=0"], "batch_size must be a whole number"),
        (["-d", "1", "--preset", "sfmanet", "--gpu-memory", "0"], "a number of GB above 0, got 0"),
        (["-d", "1", "--preset", "sfmanet", "--gpu-memory", "nan"], "a number of GB above 0, got nan"),
        (["-d", "1", "--preset", "sfmanet", "--gpu-memory", "inf"], "a number of GB above 0, got inf"),
        (
            ["-d", "1", "--preset", "sfmanet", "--gpu-memory", "8", "--set", "batch_size=4"],
            "leave out --set batch_size",
        ),
        (["-d", "1", "--preset", "danie-l-acdc", "--gpu-memory", "4"], "choose a smaller patch with --set patch_size"),
        (["-d", "1", "--preset", "sfmanet", "--name", "a__b"], "cannot name these plans"),
        (["-d", "1", "--preset", "danie-l", "--set", "training.pretrained=imagenett"], "imagenet, none or a file"),
        (
            ["-d", "1", "--preset", "danie-narrow", "--set", "training.pretrained=imagenet"],
            "these widths and depths",
        ),
        (
            ["-d", "1", "--preset", "sfmanet", "--set", "training.pretrained=imagenet"],
            "No published weights fit this SFM",
        ),
        (["-d", "1", "--preset", "danie-l", "--set", "architecture.image_size=[64,64]"], "there is no key"),
        (["-d", "1", "--preset", "danie-l", "--set", "architecture.fusion=sum"], "fusion must be one of"),
        (["-d", "1", "--preset", "danie-l", "--set", "architecture.self_attention=false"], "takes fusion 'add'"),
        (
            ["-d", "1", "--preset", "danie-l", "--set", "architecture.features_per_stage=[8,8,8,8]"],
            "four multiples of 32",
        ),
        (["-d", "1", "--preset", "danie-l", "--set", "architecture.features_per_stage=32"], "four multiples of 32"),
        (["-d", "1", "--preset", "danie-l", "--set", "architecture.depths=[1.5,1,1,1]"], "four whole numbers"),
        (["-d", "1", "--preset", "danie-l", "--set", "architecture.es_scale=NaN"], "es_scale is a number above 0"),
        (
            ["-d", "1", "--preset", "danie-l", "--set", "architecture.blocks_per_stage=0"],
            "blocks_per_stage is at least",
        ),
        (["-d", "1", "--preset", "danie-l", "--set", "training.weight_decay_on=none"], "must be 'all' or 'matrices'"),
        (["-d", "1", "--preset", "sfmanet", "-p", "other"], "run nnUNetv2_plan_and_preprocess -d 001"),
    ],
)
def test_wrong_input_ends_in_one_sentence_and_writes_nothing(workspace, arguments, sentence):
    folder = workspace.preprocessed / workspace.plain
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")) as error:
        main(["plan", *arguments])
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_another_optimizer_starts_without_the_first_ones_keywords(workspace):
    main(["plan", "-d", "1", "--preset", "sfmanet", "--set", "training.optimizer=SGD", "training.lr_schedule=poly"])
    training = read(workspace, "sfmanet")["configurations"]["2d"]["training"]
    assert training["optimizer_kwargs"] == training["lr_schedule_kwargs"] == {}


def test_inherited_configuration_is_resolved(workspace):
    path = workspace.preprocessed / workspace.plain / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plans["configurations"] = {
        "parent": plans["configurations"]["2d"],
        "2d": {"inherits_from": "parent", "batch_size": 5},
    }
    path.write_text(json.dumps(plans))
    main(["plan", "-d", "1", "--preset", "sfmanet-nnunet"])
    configuration = read(workspace, "sfmanet-nnunet")["configurations"]["2d"]
    assert configuration["batch_size"] == 5
    assert configuration["spacing"] == plans["configurations"]["parent"]["spacing"]
    assert "inherits_from" not in configuration


def test_missing_variable_is_named(workspace, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(UserError, match="nnUNet_preprocessed is not set: export"):
        main(["plan", "-d", "1", "--preset", "sfmanet"])


def test_missing_description_is_named(workspace):
    (workspace.preprocessed / workspace.plain / "dataset.json").unlink()
    with pytest.raises(UserError, match="dataset.json does not exist: run nnUNetv2_plan_and_preprocess -d 001"):
        main(["plan", "-d", "1", "--preset", "sfmanet"])


def test_plans_of_nnunet_are_never_replaced(workspace):
    folder = workspace.preprocessed / workspace.plain
    other = folder / "nnUNetResEncUNetMPlans.json"
    other.write_text((folder / "nnUNetPlans.json").read_text())
    with pytest.raises(UserError, match="was not made by nnunet-sfma plan"):
        main(["plan", "-d", "1", "--preset", "sfmanet", "--name", other.stem, "--overwrite"])
    assert other.read_text() == (folder / "nnUNetPlans.json").read_text()


def test_existing_plans_are_not_replaced_by_others(workspace):
    main(["plan", "-d", "1", "--preset", "sfmanet"])
    main(["plan", "-d", "1", "--preset", "sfmanet"])
    with pytest.raises(UserError, match="exists and differs"):
        main(["plan", "-d", "1", "--preset", "sfmanet", "--set", "batch_size=2"])
    assert read(workspace, "sfmanet")["configurations"]["2d"]["batch_size"] == 16
    main(["plan", "-d", "1", "--preset", "sfmanet", "--set", "batch_size=2", "--overwrite"])
    assert read(workspace, "sfmanet")["configurations"]["2d"]["batch_size"] == 2


def test_plans_of_before_a_key_are_the_same_where_it_is_at_its_default(workspace):
    main(["plan", "-d", "1", "--preset", "sfmanet-narrow"])
    path = workspace.preprocessed / workspace.plain / "sfmanet-narrow.json"
    made = json.loads(path.read_text())
    for block, key in (("training", "accelerate"), ("training", "seed"), ("architecture", "sgu_weight")):
        before = json.loads(path.read_text())
        place = before["configurations"]["2d"][block]
        del place.get("arch_kwargs", place)[key]
        path.write_text(json.dumps(before))
    main(["plan", "-d", "1", "--preset", "sfmanet-narrow"])
    assert json.loads(path.read_text()) == made
    before["configurations"]["2d"]["training"]["num_epochs"] = 3
    path.write_text(json.dumps(before))
    with pytest.raises(UserError, match="exists and differs"):
        main(["plan", "-d", "1", "--preset", "sfmanet-narrow"])


def test_every_preset_makes_plans(workspace):
    for name in preset_names():
        main(["plan", "-d", "1", "--preset", name])
        assert read(workspace, name)["plans_name"] == name


def test_presets_of_the_papers_tables_exist():
    ablations = {"unet", "sfgu", "iem", "sfgu-iem", "sfgu-dmau", "full"}
    cells = {f"sfmanet-sgu{t}-fgu{a}" for t in (20, 50, 80) for a in (25, 50, 75)}
    wanted = {"sfmanet", "sfmanet-r1", "sfmanet-nnunet", "sfmanet-narrow", "sfmanet-atlas", "sfmanet-isles2022", *cells}
    assert wanted | {f"sfmanet-ablation-{name}" for name in ablations} <= set(preset_names())
    rows = {f"{letter}{n}" for letter, count in (("a", 5), ("b", 4), ("c", 5)) for n in range(1, count + 1)}
    assert rows == {name.split("-")[1] for name in preset_names() if name.startswith("danie-") and name[6] in "abc"}


@pytest.mark.parametrize("dataset, batch_size, epochs", [("synapse", 24, 300), ("acdc", 12, 400), ("isic", 8, 200)])
@pytest.mark.parametrize("size", ["s", "l"])
def test_recipes_of_danie_are_the_papers(size, dataset, batch_size, epochs):
    preset = load_preset(f"danie-{size}-{dataset}")
    assert preset.configuration == {"batch_size": batch_size, "patch_size": [256, 256]}
    stated = {"optimizer": "AdamW", "initial_lr": 1e-4, "weight_decay": 1e-4, "dice_weight": 0.7, "ce_weight": 0.3}
    stated |= {"num_epochs": epochs, "pretrained": "imagenet"}
    assert {key: preset.training[key] for key in stated} == stated
    assert load_preset(f"danie-{size}-glas").training["num_epochs"] == 100


@pytest.mark.parametrize("dataset", ["atlas", "isles2022"])
def test_recipe_of_sfmanet_is_the_papers(dataset):
    preset = load_preset(f"sfmanet-{dataset}")
    assert preset.configuration == {"batch_size": 16, "patch_size": [256, 256]}
    assert preset.architecture == load_preset("sfmanet").architecture
    assert preset.training == load_preset("sfmanet").training and preset.training["num_epochs"] == 50


def test_danie_without_a_data_set_keeps_the_patch_of_the_plan(workspace):
    main(["plan", "-d", "1", "--preset", "danie-s"])
    own = read(workspace, "nnUNetPlans")["configurations"]["2d"]
    assert read(workspace, "danie-s")["configurations"]["2d"]["patch_size"] == own["patch_size"]
