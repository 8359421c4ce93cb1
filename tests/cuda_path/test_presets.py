"""A step of training of every preset's network on a GPU, without one: devices, number formats, and no waiting."""

import json
from functools import cache
from pathlib import Path

import pytest

from tests.cuda_path.networks import distinct_networks
from tests.cuda_path.stub import run_on_cards

SCRIPT = Path(__file__).parent / "train_presets.py"
HAVE_ALL_UNITS = ("sfmanet", "sfmanet-r1", "danie-c5-joint-preservation", "peer-unetr")
FAULTS = {
    "BufferLeftBehind": "convert all Tensors",
    "NumberLeftBehind": "convert all Tensors",
    "Item": "_local_scalar_dense",
    "Download": "_to_copy",
    "Single": "convolution.default in torch.float32",
    "Unused": "unused has no gradient",
}


def trained_together(units: str):
    """One script trains all of these networks: one of pytest's workers shall run it, not each of them."""
    return pytest.param(units, marks=pytest.mark.xdist_group(f"networks of {units} units"))


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """A function from units, "fast" or "plain", and presets, all by default, to what went wrong by preset and fault."""
    folder = tmp_path_factory.mktemp("stub")

    @cache
    def found(units: str, *presets: str) -> dict[str, str]:
        return json.loads(run_on_cards(SCRIPT, units, *presets, cards="90", folder=folder))

    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(problems, fault):
    assert FAULTS[fault] in problems("fast", *HAVE_ALL_UNITS)[fault]


@pytest.mark.parametrize("preset", HAVE_ALL_UNITS)
def test_every_unit_trains_on_the_gpu_alone(problems, preset):
    assert not problems("fast", *HAVE_ALL_UNITS)[preset]


@pytest.mark.slow
@pytest.mark.parametrize("units", [trained_together("fast"), trained_together("plain")])
@pytest.mark.parametrize("preset", distinct_networks())
def test_a_network_trains_on_the_gpu_alone(problems, preset, units):
    assert not problems(units)[preset]
