"""``nnunet-sfma networks``: the cost table."""

import json
import shutil
import sys

import pytest

from nnunet_sfma import presets
from nnunet_sfma.cli import main
from nnunet_sfma.presets import preset_names


@pytest.fixture(scope="module")
def costs(counted_networks: list[dict]) -> dict:
    return {row["preset"]: row for row in counted_networks}


@pytest.mark.parametrize("preset", ["sfmanet", "sfmanet-r1", "sfmanet-ablation-unet"])
def test_parameters_are_within_half_a_percent_of_the_published(costs, preset):
    row = costs[preset]
    assert row["parameters_millions"] == pytest.approx(row["published_parameters_millions"], rel=5e-3)


def test_multiply_adds_are_those_of_the_layers(costs):
    assert costs["sfmanet-ablation-unet"]["conv_gmacs"] == pytest.approx(48.09, abs=0.01)
    assert costs["sfmanet-ablation-unet"]["matmul_gmacs"] == 0
    assert costs["sfmanet"]["matmul_gmacs"] == pytest.approx(3.21, abs=0.01)


@pytest.mark.parametrize(
    "preset, conv, matmul, accelerated", [("sfmanet", 67.62, 3.21, 61.85), ("sfmanet-r1", 88.38, 3.17, 85.38)]
)
def test_multiply_adds_are_those_of_the_equations_with_the_accelerated_ones_beside_them(
    costs, preset, conv, matmul, accelerated
):
    row = costs[preset]
    found = [row[f"{key}_gmacs"] for key in ("conv", "matmul", "accelerated_conv")]
    assert [round(value, 2) for value in found] == [conv, matmul, accelerated]


def test_accelerating_saves_no_multiply_adds_without_chains_of_linear_maps(costs):
    for preset in ("danie-l", "danie-s", "sfmanet-ablation-unet"):
        assert costs[preset]["accelerated_conv_gmacs"] == costs[preset]["conv_gmacs"]


@pytest.mark.parametrize(
    "preset",
    ["danie-l", "danie-a1-no-hierarchical", "danie-a5-add", "danie-c1-concat-residual", "danie-c2-add"]
    + ["danie-c3-eh-add", "danie-c4-es-add", "danie-c5-joint-preservation"],
)
def test_multiply_adds_of_danie_are_within_a_percent_of_the_published(costs, preset):
    row = costs[preset]
    assert row["conv_gmacs"] == pytest.approx(row["published_flops_billions"], rel=1e-2)
    assert row["remark"] is None


def test_what_the_published_figures_do_not_explain_is_said(costs):
    differences = {name: row["difference_percent"] for name, row in costs.items() if row["remark"]}
    assert {name: round(value, 1) for name, value in differences.items() if "danie-s-" not in name} == {
        "danie-s": -7.9,
        "danie-a2-no-self-attention": -5.4,
        "danie-a3-no-spatial": 13.7,
        "danie-a4-no-channel": 8.2,
    }
    assert costs["danie-s"]["conv_gmacs"] == pytest.approx(12.24, abs=0.01)
    assert "unexplained" in costs["danie-s"]["remark"]


def test_published_figures_stand_only_beside_the_network_they_describe(costs):
    named = {name for name, row in costs.items() if row["published_flops_billions"] == 94.77}
    assert named == {
        "sfmanet",
        "sfmanet-ablation-full",
        "sfmanet-atlas",
        "sfmanet-isles2022",
        "sfmanet-literal",
        "sfmanet-nnunet",
        "sfmanet-r1",
        "sfmanet-scconv",
        "sfmanet-sgu50-fgu50",
    }
    sizes = [name for name, row in costs.items() if row["published_flops_billions"] in (13.29, 26.55)]
    assert "danie-narrow" not in sizes and len(sizes) == 11


def test_table_names_its_convention(capsys):
    main(["networks"])
    printed = capsys.readouterr().out
    assert "| sfmanet | 36.97 | 36.92 | 67.62 | 3.21 | 61.85 | 94.77 | |" in printed.replace("  ", " ")
    assert "| danie-l | 126.32 | | 26.53 | 0.77 | 26.53 | 26.55 | -0.1 % |" in printed.replace("  ", " ")
    assert "multiply-adds of one image" in printed and "mixes units" in printed


def test_rows_of_the_ablations_stand_below_the_costs(costs, capsys):
    main(["networks"])
    printed = capsys.readouterr().out
    assert "(plan --ablation ROW): unet, unet+sfgu, " in printed
    assert "(plan --ablation ROW): a1-no-hierarchical, " in printed
    main(["networks", "--json"])
    listed = json.loads(capsys.readouterr().out)["ablations"]
    assert listed["sfmanet"]["unet"] == "U-Net alone" and set(listed) == {"sfmanet", "danie"}


def test_peers_stand_in_a_table_of_their_own(costs, capsys):
    pytest.importorskip("monai")
    main(["networks"])
    peers = capsys.readouterr().out.partition("Peers, counted for 1 x 256 x 256 and 1 class:")[2]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in peers.splitlines() if line.startswith("| peer-")]
    assert rows == [name for name in preset_names() if name.startswith("peer-")] and len(rows) == 6
    assert "| peer-nnunet |  |  |  |  |  |  |  | nnU-Net's own network" in peers
    assert "Left out" not in peers
    assert costs["peer-attention-unet"]["parameters_millions"] == pytest.approx(31.74, abs=0.005)
    assert costs["peer-attention-unet"]["published_parameters_millions"] is None
    assert costs["peer-nnunet"]["conv_gmacs"] is None
    assert costs["peer-unet"]["conv_gmacs"] == costs["sfmanet-ablation-unet"]["conv_gmacs"]


def test_peers_are_left_out_without_their_library(tmp_path, monkeypatch, capsys):
    for name in ("monai", "monai.networks", "monai.networks.nets"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("sfmanet", "peer-nnunet", "peer-unetr"):
        shutil.copy(presets.presets_folder() / f"{name}.json", tmp_path)
    # of a width that no other test has measured
    unetr = tmp_path / "peer-unetr.json"
    unetr.write_text(unetr.read_text().replace('"feature_size": 16', '"feature_size": 8'))
    monkeypatch.setattr(presets, "presets_folder", lambda: tmp_path)
    main(["networks"])
    printed = capsys.readouterr().out
    assert "Left out for want of MONAI (pip install 'nnunet-sfma[peers]'): peer-unetr." in printed
    assert "| peer-nnunet |" in printed and "| peer-unetr |" not in printed and "| sfmanet |" in printed
    assert "DANIE, counted" not in printed
    main(["networks", "--json"])
    assert json.loads(capsys.readouterr().out)["left_out"] == ["peer-unetr"]
