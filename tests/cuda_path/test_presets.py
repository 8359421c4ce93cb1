"""A step of training of networks of both papers on a GPU, without one: devices, number formats, and no waiting."""

import json
from pathlib import Path

import pytest

from tests.cuda_path.stub import run_on_cards

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def problems(tmp_path_factory) -> dict[str, str]:
    """By network or planted fault."""
    folder = tmp_path_factory.mktemp("stub")
    return json.loads(run_on_cards(HERE / "train_presets.py", cards="90", folder=folder))


FAULTS = {
    "BufferLeftBehind": "convert all Tensors",
    "NumberLeftBehind": "convert all Tensors",
    "Item": "_local_scalar_dense",
    "Download": "_to_copy",
    "Unused": "unused has no gradient",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(problems, fault):
    assert FAULTS[fault] in problems[fault]


def test_every_network_trains_on_the_gpu_alone(problems):
    networks = {name: problem for name, problem in problems.items() if name not in FAULTS}
    assert not {name: problem for name, problem in networks.items() if problem}
    assert len(networks) == 5
