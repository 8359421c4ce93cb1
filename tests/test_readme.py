"""The README says what the commands print, and nothing that no committed result says."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.departures import entries
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.published import tables_for
from nnunet_sfma.explaining.case import find_case
from nnunet_sfma.planning.cost_table import CostRow, format_table
from nnunet_sfma.presets import load_preset, preset_names
from tests.conftest import Workspace, plan_and_preprocess
from tests.dataset_conversion.releases import build_isles

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = (ROOT / "README.md").read_text()
PROSE = " ".join(README.split())
DECIMAL = re.compile(r"(?<![\d.])\d+\.\d+(?!\.?\d)|\d+ ?%")
NOT_MEASURED = (
    "Python 3.10",
    "nnU-Net 2.8",
    "learning rate: 0.0001",
    "Adam (0.9, 0.999)",
    "factor of the cut (0.1)",
    "0.7 Dice + 0.3 cross-entropy",
    "95 % bootstrap",
    "ATLAS R1.1, R1.2 or R2.0",
    "10.1038/s41598-025-10506-z",
    "10.3233/FAIA240505",
    "Apache-2.0",
)
"""Versions, settings and conventions."""
OF_OTHER_TESTS = ("9.3 GB for `sfmanet`", "14.6 GB for `danie-l`")


def result(name: str) -> dict:
    return json.loads((RESULTS / name).read_text())


@pytest.fixture(scope="module")
def costs() -> dict[str, CostRow]:
    return {row["preset"]: CostRow(**row) for row in result("networks.json")["networks"]}


@pytest.fixture(scope="module")
def cost_table(costs: dict[str, CostRow]) -> str:
    # without the peers, which cannot all be counted everywhere
    return format_table([row for row in costs.values() if not row.preset.startswith("peer-")])


@pytest.fixture
def readme(monkeypatch: pytest.MonkeyPatch):
    """The module that makes tables and findings of the committed results."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks" / "learning")])
    return importlib.import_module("readme")


@pytest.fixture
def claims(costs: dict[str, CostRow]) -> list[str]:
    """Every sentence, or part of one, that tells a measured number, with the numbers of the committed results."""
    return [*of_the_costs(costs), *of_the_benchmarks(), *of_the_study(), *of_the_papers()]


def of_the_costs(costs: dict[str, CostRow]) -> list[str]:
    sfmanet, unet, danie_l, danie_s = (costs[name] for name in ("sfmanet", "peer-unet", "danie-l", "danie-s"))
    joining = [abs(row.difference_percent) for name, row in costs.items() if name.startswith("danie-c")]
    said = [
        f"SFMANet has {sfmanet.parameters_millions:.2f} M parameters against the published "
        f"{sfmanet.published_parameters_millions:.2f} M, the plain U-Net {unet.parameters_millions:.2f} M against "
        f"{unet.published_parameters_millions:.2f} M",
        f"DANIE-L needs {danie_l.conv_gmacs:.2f} G multiply-adds against the published "
        f"{danie_l.published_flops_billions:.2f}, and every ablation of its Table 7 is within {max(joining):.1f} %; "
        f"DANIE-S is {-danie_s.difference_percent:.1f} % below",
    ]
    if "peer-attention-unet" in costs:
        attention, nested = (costs[name].parameters_millions for name in ("peer-attention-unet", "peer-unetpp"))
        said.append(
            f"MONAI's Attention U-Net has {attention:.2f} M parameters where the paper's has 34.88 M, "
            f"its U-Net++ {nested:.2f} M against 36.62 M"
        )
    return said


def of_the_benchmarks() -> list[str]:
    given_back, kept = (_inference_of_sfmanet(result(name)) for name in ("speed.json", "speed_kept_memory.json"))
    seconds = kept["seconds"]["median"] / given_back["seconds"]["median"]
    peak = kept["peak_memory_bytes"] / given_back["peak_memory_bytes"]
    return [f"took {seconds:.2f} of the time and {peak:.2f} times the memory"]


def of_the_study() -> list[str]:
    study = result("learning/hippocampus.json")
    models = list(study["models"].values())
    recipes = [{**model["model"]["training"], "optimizer_kwargs": None} for model in models]
    kwargs = [model["model"]["training"]["optimizer_kwargs"] for model in models]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert all(entry in ({}, {"betas": [0.9, 0.999]}) for entry in kwargs), "Adam's own, written out or not"
    (batch,) = {model["model"]["batch_size"] for model in models}
    (cases,) = {len({row[0] for row in model["cases"]}) for model in models}
    assert [len(names) for names in study["groups"].values()] == [4, 6]
    assert all([fold["state"] for fold in model["folds"]] == ["finished"] * 5 for model in models)
    assert len({model["split"]["sha256"] for model in models}) == 1
    costs = [study["models"][name]["cost"]["multiply_adds"] for name in study["groups"]["networks"]]
    assert max(costs) < 1.15 * min(costs), "about equal multiply-adds"
    iterations = recipes[0]["num_epochs"] * recipes[0]["iterations_per_epoch"]
    return [f"{cases} real cases, five folds", f"{iterations} iterations of {batch} slices"]


def of_the_papers() -> list[str]:
    """What remarks on the papers' numbers say, too."""
    (remark,) = (each for each in tables_for("atlas")[0].remarks if "volume-level" in each)
    measured = next(each.measured for each in entries("SFMANet") if each.key == "iem-stages")
    cost = "as thop counts, 21.6 % below"
    assert cost in measured
    return [remark.partition(":")[0], cost]


def _inference_of_sfmanet(speed: dict) -> dict:
    return next(cell["networks"]["sfmanet"] for cell in speed["cells"] if cell["mode"] == "inference")


def test_costs_are_those_that_the_command_counts(costs: dict[str, CostRow], counted_networks: list[dict]):
    assert {row["preset"] for row in counted_networks} <= set(costs)
    for row in counted_networks:
        assert CostRow(**row) == costs[row["preset"]]


def test_tables_of_networks_are_those_that_the_command_prints(cost_table: str):
    assert cost_table in README


def test_tables_and_findings_are_those_of_the_committed_results(readme):
    assert len(readme.tables()) == 5
    assert all(table in README for table in readme.tables())
    assert all(finding in PROSE for finding in readme.findings())


def test_claims_are_those_of_the_committed_results(claims: list[str]):
    for claim in claims:
        assert claim in PROSE


def test_words_on_the_study_are_true(readme):
    """What README says "in words" of the study's two tables."""
    study = readme.read("hippocampus")
    dice = {name: model["summary"]["mean"]["dice"]["mean"] for name, model in study["models"].items()}
    distance = {name: study["models"][name]["summary"]["mean"]["hd95"]["mean"] for name in study["groups"]["networks"]}
    tests = [test for group in study["tests"].values() for test in group]
    p = {
        frozenset((test["a"], test["b"])): test["p_holm"]
        for test in tests
        if (test["metric"], test["class_name"]) == ("dice", "mean")
    }

    def above(higher: str, lower: str) -> bool:
        return dice[higher] > dice[lower] and p[frozenset((higher, lower))] < 0.05

    assert above("unet", "sfmanet") and p[frozenset(("sfmanet", "nnunet"))] > 0.05
    assert all(above(other, "danie") for other in ("sfmanet", "unet", "nnunet"))
    assert min(distance, key=distance.get) == "danie"
    assert all(above(row, "row-unet") for row in ("row-sfgu", "row-sfgu-dmau", "sfmanet"))
    without_and_with_iem = (("row-unet", "row-iem"), ("row-sfgu", "row-sfgu-iem"), ("row-sfgu-dmau", "sfmanet"))
    assert not any(above(with_iem, without) for without, with_iem in without_and_with_iem)


def test_estimates_of_memory_are_those_that_plan_prints(workspace: Workspace, capsys: pytest.CaptureFixture):
    def estimate(preset: str) -> str:
        main(["plan", "-d", "1", "--preset", preset, "--set", "patch_size=[256,256]", "training.pretrained=none"])
        return re.search(r"memory: (\S+ GB)", capsys.readouterr().out)[1]

    sfmanet, danie_l = estimate("sfmanet"), estimate("danie-l")
    assert f"{sfmanet} for `sfmanet` with 16 patches of 256 x 256, {danie_l} for `danie-l` with 24" in PROSE


def test_no_other_number_is_claimed(cost_table: str, readme, claims: list[str]):
    """Outside the tables, examples of commands and claims there are settings only."""
    left = README
    for table in (cost_table, *readme.tables()):
        left = left.replace(table, "")
    left = " ".join(" ".join(line for line in left.splitlines() if not line.startswith("    ")).split())
    for known in (*claims, *readme.findings(), *OF_OTHER_TESTS, *NOT_MEASURED):
        left = left.replace(known, "")
    assert not DECIMAL.findall(left)


@pytest.mark.parametrize("claim", ["It reaches 0.93.", "0.931 of it", "93 % of it", "93% of it", "(0.93)"])
def test_numbers_without_a_source_are_found(claim: str):
    assert DECIMAL.findall(claim)


def test_presets_named_in_commands_exist():
    named = {line.split("--preset ")[1].split()[0] for line in README.splitlines() if "--preset " in line}
    assert named and named <= set(preset_names())
    assert load_preset("sfmanet").configuration["batch_size"] == 16


def lines_after(command: str) -> list[str]:
    """What README shows below a command, up to the next empty line."""
    lines = README.splitlines()
    start = lines.index(next(line for line in lines if line.startswith(f"    $ {command}"))) + 1
    return [line.strip() for line in lines[start : lines.index("", start)]]


def test_quick_start_works_with_the_two_cases_that_it_shows(tmp_path: Path, monkeypatch, capsys):
    """From the conversion to a fold that can be trained, and a case that can be explained."""
    from nnunetv2.run.run_training import get_trainer_from_args

    Workspace(tmp_path).point_to_it(monkeypatch)
    for folder in Workspace(tmp_path).environment.values():
        Path(folder).mkdir()
    source = build_isles(tmp_path, size=(40, 40, 6))
    main(["convert", "isles2022", str(source), "-d", "501", "--modality", "dwi+adc", "-np", "1"])
    printed = capsys.readouterr().out
    for line in lines_after("nnunet-sfma convert isles2022 ISLES-2022 -d 501"):
        pattern = re.escape(line.replace("in ISLES-2022", f"in {source}")).replace(r"\.\.\.", ".*")
        assert re.search(pattern, printed), line
    plan_and_preprocess([501])
    trainer, fold = re.search(r"nnUNetv2_train 501 2d (\d) -tr (\w+) ", README).group(2, 1)
    training, validation = get_trainer_from_args("501", "2d", int(fold), trainer, device=torch.device("cpu")).do_split()
    assert sorted([*training, *validation]) == ["strokecase0001", "strokecase0002"]
    explained = re.search(r"nnunet-sfma explain -d 501 .* --case (\S+)", README)[1]
    raw = Workspace(tmp_path).raw / "Dataset501_ISLES2022_DWI_ADC"
    assert len(find_case(raw, explained, json.loads((raw / "dataset.json").read_text())).images) == 2
    with pytest.raises(UserError, match=rf"did you mean {explained}\?"):
        find_case(raw, f"sub-{explained}", json.loads((raw / "dataset.json").read_text()))
