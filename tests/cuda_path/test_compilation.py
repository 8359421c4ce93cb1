"""torch.compile of the networks that the trainers build: each is one graph, and a further patch size costs one more.

Training and prediction are compiled apart. Dynamo takes the first size as it is and the second for any size. DANIE
belongs to the patch that it is built for, and pads smaller ones; a larger one it refuses, compiled or not.
"""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nnunet_sfma.presets import load_preset
from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe
from tests.cuda_path.networks import small_architecture


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def built_by_trainer(preset: str, side: int) -> nn.Module:
    """The accelerated network with the trainer's checks of its input."""
    configuration = {"architecture": small_architecture(preset, side), "training": load_preset(preset).training}
    return nnUNetTrainerRecipe.build_network_architecture(None, SimpleNamespace(configuration=configuration), 1, 2)


def graphs(network: nn.Module, *passes: tuple[str, int]) -> list[int]:
    """How many graphs there are after each pass of a patch, for training or prediction, compiled as a whole.

    Those of the checks of the input, which compute nothing, are left out.
    """
    found = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        if any(graph.graph.output_node().args):
            found.append(graph)
        return graph.forward

    compiled = torch.compile(network, backend=backend, fullgraph=True)
    numbers = []
    for purpose, side in passes:
        network.train(purpose == "training")
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.set_grad_enabled(network.training):
            compiled(torch.randn(2, 1, side, side))
        numbers.append(len(found))
    return numbers


def test_sfmanet_is_one_graph_for_a_patch_size_and_one_for_all_others():
    network = built_by_trainer("sfmanet", 64)
    trained_and_applied = [("training", 64), ("prediction", 64), ("training", 64)]
    assert graphs(network, *trained_and_applied, ("training", 96), ("training", 80)) == [1, 2, 2, 3, 3]


def test_danie_is_one_graph():
    assert graphs(built_by_trainer("danie-l", 64), ("training", 64), ("training", 64)) == [1, 1]


@pytest.mark.slow
def test_danie_is_one_graph_for_its_patch_and_one_for_all_smaller():
    network = built_by_trainer("danie-l", 96)
    trained_and_applied = [("training", 96), ("prediction", 96), ("training", 96)]
    assert graphs(network, *trained_and_applied, ("training", 64), ("training", 80)) == [1, 2, 2, 3, 3]


def test_danie_refuses_a_larger_patch_than_its_own():
    with pytest.raises(torch._dynamo.exc.Unsupported, match="built for images of shape"):
        graphs(built_by_trainer("danie-l", 64), ("training", 96))


class Item(nn.Module):
    def forward(self, x):
        return x * x.max().item() if x.max().item() > 0 else x


def test_a_network_that_breaks_its_graph_is_seen():
    with pytest.raises((torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError)):
        graphs(Item(), ("training", 8))
