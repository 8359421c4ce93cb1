"""Rows of the papers' ablations: with any preset's recipe, and under the names that they had as presets."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from nnunet_sfma.presets import ablations, load_preset, preset_names
from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch
from tests.conftest import Workspace

OF_BEFORE = json.loads(Path(__file__).with_name("presets_of_before.json").read_text())
WITHOUT_A_NAME_OF_BEFORE = [
    (row.alias_of, name) for rows in ablations().values() for name, row in rows.items() if not row.alias
]


def flat(settings: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def read(workspace: Workspace, name: str) -> dict:
    return json.loads((workspace.preprocessed / workspace.plain / f"{name}.json").read_text())


@pytest.mark.parametrize("name", OF_BEFORE["presets"])
def test_a_row_that_was_a_preset_is_what_it_was(name: str):
    then = {**OF_BEFORE["presets"][name], "name": name}
    then = {**OF_BEFORE["bases"][then.pop("of")], **then}
    now = flat(asdict(load_preset(name)))
    assert {key: now[key] for key in then} == then
    assert name in preset_names()


def test_a_row_changes_the_network_and_keeps_the_recipe_of_its_preset(workspace: Workspace, capsys):
    main(["plan", "-d", "1", "--preset", "sfmanet-isles2022"])
    main(["plan", "-d", "1", "--preset", "sfmanet-isles2022", "--ablation", "unet+sfgu"])
    printed = capsys.readouterr().out
    assert "nnUNetv2_train 1 2d FOLD -tr nnUNetTrainerSFMANet -p sfmanet-isles2022-unet+sfgu" in printed
    parent, row = (read(workspace, name) for name in ("sfmanet-isles2022", "sfmanet-isles2022-unet+sfgu"))
    of_parent, of_row = (flat(plans["configurations"]["2d"]) for plans in (parent, row))
    changed = {key: of_row[key] for key in of_parent if of_row[key] != of_parent[key]}
    assert changed == {"architecture.arch_kwargs.dmau": False, "architecture.arch_kwargs.iem_stages": 0}
    assert of_row["patch_size"] == [256, 256] and of_row["batch_size"] == 16
    made_by = row["made_by"]
    assert made_by[made_by.index("--preset") + 1] == "sfmanet-isles2022"
    assert made_by[made_by.index("--ablation") + 1] == "unet+sfgu" and "--ablation" not in parent["made_by"]


def test_the_command_that_plans_record_makes_them_again(workspace: Workspace):
    main(["plan", "-d", "1", "--preset", "danie-narrow", "--ablation", "c2-add", "--slice-axis", "z"])
    made = read(workspace, "danie-narrow-c2-add-z")
    (workspace.preprocessed / workspace.plain / "danie-narrow-c2-add-z.json").unlink()
    main(made["made_by"][1:])
    assert read(workspace, "danie-narrow-c2-add-z") == made


def test_a_network_without_a_maxvit_starts_from_no_weights_for_one(workspace: Workspace):
    main(["plan", "-d", "1", "--preset", "danie-l-acdc", "--ablation", "a2-no-self-attention"])
    configuration = read(workspace, "danie-l-acdc-a2-no-self-attention")["configurations"]["2d"]
    recipe = load_preset("danie-l-acdc")
    assert configuration["training"] == {**recipe.training, "pretrained": "none"}
    assert {key: configuration[key] for key in recipe.configuration} == recipe.configuration


@pytest.mark.parametrize("preset, row", WITHOUT_A_NAME_OF_BEFORE)
def test_rows_that_were_no_presets_are_networks(preset: str, row: str):
    ablated = load_preset(preset, row)
    differs = ablated.architecture != load_preset(preset).architecture
    with torch.device("meta"):
        build_network(fit_to_patch(ablated.architecture, (64, 64)), 1, 2)
    assert differs and ablated.training == load_preset(preset).training


def test_tables_of_both_papers_are_complete():
    units = {"unet", "unet+sfgu", "unet+iem", "unet+sfgu+iem", "unet+sfgu+dmau", "full"}
    cells = {f"sgu{threshold}-fgu{alpha}" for threshold in (20, 50, 80) for alpha in (25, 50, 75)}
    assert set(ablations()["sfmanet"]) == units | cells | {f"{cell}-channel_sum" for cell in cells}
    rows = {f"{letter}{number}" for letter, count in (("a", 5), ("b", 4), ("c", 5)) for number in range(1, count + 1)}
    assert {name.partition("-")[0] for name in ablations()["danie"]} == rows


def test_calibration_of_table_6_is_taken_apart_in_both_orders():
    rows = [row.arch_kwargs for name, row in ablations()["danie"].items() if name.startswith("b")]
    parts = {
        (row.get("attention_order"), row.get("dynamic_calibration", True), row.get("calibration_map", True))
        for row in rows
    }
    orders, either = ("spatial_channel", None), (True, False)
    assert parts == {(order, scalars, of_map) for order in orders for scalars in either for of_map in either}
    assert all(row["fusion"] == "add" for row in rows)


@pytest.mark.parametrize(
    "preset, row, sentence",
    [
        ("danie-l-acdc", "unet+sfgu", "'danie-l-acdc' has no ablation 'unet.sfgu': choose one of a1-no-hierarchical, "),
        ("sfmanet-atlas", "unet+sfmu", "choose one of unet, unet.sfgu, unet.iem, .* sgu20-fgu25-channel_sum"),
        ("sfmanet-atlas", "", "has no ablation '': choose one of unet"),
        ("peer-unet", "unet+sfgu", "'peer-unet' has no ablations: presets of danie and sfmanet have some"),
        ("sfmanet-ablation-iem", "full", "itself, sfmanet with unet.iem: use --preset sfmanet with --ablation"),
    ],
)
def test_a_row_of_another_network_is_refused_with_those_that_exist(workspace, preset, row, sentence):
    before = sorted((workspace.preprocessed / workspace.plain).iterdir())
    with pytest.raises(UserError, match=sentence) as error:
        main(["plan", "-d", "1", "--preset", preset, "--ablation", row])
    assert "\n" not in str(error.value)
    assert sorted((workspace.preprocessed / workspace.plain).iterdir()) == before
