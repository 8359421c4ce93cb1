"""Departures from the papers as data: complete, true of the networks, and shown for the model at hand."""

import inspect
import json

import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.departures import departures_of_preset, entries, load_departures
from nnunet_sfma.errors import UserError
from nnunet_sfma.networks.danie import DANIE
from nnunet_sfma.networks.sfmanet import SFMANet
from nnunet_sfma.presets import load_preset, preset_names
from tests.conftest import Workspace

NETWORKS = {"SFMANet": SFMANet, "DANIE": DANIE}


def parameters(network: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(NETWORKS[network]).parameters)


def keys_of(preset: str) -> set[str]:
    return {each.key for each in departures_of_preset(load_preset(preset))}


def printed(capsys: pytest.CaptureFixture, *words: str) -> str:
    main(["networks", *words])
    return capsys.readouterr().out


@pytest.mark.parametrize("network", NETWORKS)
def test_every_switch_of_a_network_has_an_entry_or_is_said_to_be_no_reading(network: str):
    switches = {each.switch for each in entries(network)}
    no_reading = load_departures()[network]["no_reading"]
    without = {name for name in parameters(network) if f"architecture.{name}" not in switches} - set(no_reading)
    assert not without, f"departures.json of {network} says nothing of {without}"


@pytest.mark.parametrize("network", NETWORKS)
def test_defaults_are_those_of_the_network(network: str):
    known = parameters(network)
    for key, value in load_departures()[network]["defaults"].items():
        name = key.removeprefix("architecture.")
        assert name not in known or known[name].default == value, name


def test_entries_have_keys_and_conditions_that_exist():
    for network, content in load_departures().items():
        keys = [each.key for each in entries(network)]
        assert len(set(keys)) == len(keys)
        training = {f"training.{key}" for key in load_preset("sfmanet").training}
        known = {*content["defaults"], *training, "batch_size", "patch_size", "paper_slices"}
        assert {key for each in entries(network) for key in [each.switch, *each.when] if key} <= known


def test_a_switch_at_the_printed_form_is_no_departure(capsys: pytest.CaptureFixture):
    preset = load_preset("sfmanet")
    assert {"eq13-scale", "eq16-input", "loss"} <= keys_of("sfmanet")
    preset.architecture["arch_kwargs"]["fgu_rescale"] = False
    assert "eq13-scale" not in {each.key for each in departures_of_preset(preset)}
    assert {"iem-stages"} == keys_of("sfmanet-r1") - keys_of("sfmanet")


def test_the_literal_preset_has_every_switch_at_its_printed_form(capsys: pytest.CaptureFixture):
    listed = json.loads(printed(capsys, "--departures", "sfmanet-literal", "--json"))
    assert listed and not [each["key"] for each in listed if each["kind"] == "departure" and each["literal"]]
    arguments = load_preset("sfmanet-literal").architecture["arch_kwargs"]
    assert (arguments["sgu_weight"], arguments["iem_attention"]) == ("group_sum", "unscaled"), "nearest to the words"


def test_public_ancestors_set_the_gate_by_all_channels_without_beta_and_rescale_nothing():
    arguments = load_preset("sfmanet-scconv").architecture["arch_kwargs"]
    gates = {"sgu_weight": "channel_sum", "sgu_beta": False, "sgu_gate": "kept", "fgu_rescale": False, "fgu_groups": 4}
    attention = {"iem_attention": "unscaled", "iem_attention_factor": True}
    assert arguments == {**load_preset("sfmanet").architecture["arch_kwargs"], **gates, **attention}


def test_entries_are_those_of_the_units_that_a_network_has():
    unet = keys_of("sfmanet-ablation-unet")
    assert not any(key.startswith(("eq", "iem", "fgu", "sgu")) for key in unet)
    assert "skip-without-dmau" in keys_of("sfmanet-ablation-sfgu") and "skip-without-dmau" not in keys_of("sfmanet")
    assert "eq10-fuse" in keys_of("danie-l") and "eq10-fuse" not in keys_of("danie-a5-add")
    assert keys_of("peer-nnunet") == {"recipe", "deep-supervision"}


def test_recipes_of_the_papers_are_no_departures():
    recipe = {"optimizer", "learning-rate", "epochs", "batch", "schedule", "weight-decay", "imagenet"}
    assert not recipe & keys_of("sfmanet-isles2022")
    assert recipe & keys_of("danie-l-acdc") == {"schedule"}, "which the paper leaves open"
    assert {"optimizer", "learning-rate", "epochs", "batch", "schedule"} <= keys_of("sfmanet-nnunet")


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_says_where_it_departs(preset: str):
    assert keys_of(preset)


def test_command_prints_what_is_printed_done_and_why_and_how_to_have_it_otherwise(capsys: pytest.CaptureFixture):
    text = printed(capsys, "--departures", "sfmanet")
    assert "Softmax weights over the 2C channels" in text and "--set architecture.fgu_rescale=false" in text
    assert "## SFMANet: departures" in text and "## SFMANet: decisions on what the paper leaves open" in text
    assert "## DANIE" not in text
    everything = printed(capsys, "--departures")
    assert all(heading in everything for heading in ("## SFMANet", "## DANIE", "## Peers"))
    listed = json.loads(printed(capsys, "--departures", "danie-l", "--json"))
    assert {each["network"] for each in listed} == {"DANIE"} and listed[0]["printed"]


def test_unknown_presets_are_refused():
    with pytest.raises((UserError, SystemExit)):
        main(["networks", "--departures", "sfmanett"])


def test_plan_says_how_many_there_are(workspace: Workspace, capsys: pytest.CaptureFixture):
    main(["plan", "-d", "1", "--preset", "sfmanet-narrow", "--name", "said"])
    assert "networks --departures sfmanet-narrow lists them" in capsys.readouterr().out
