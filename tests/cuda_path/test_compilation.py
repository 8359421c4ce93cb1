"""torch.compile of SFMANet: it is one graph, and a second patch size costs one further graph."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from nnunet_sfma.networks.accelerate import accelerate
from nnunet_sfma.presets import load_preset
from nnunet_sfma.trainers.complete_plans import build_network


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def graphs(network: nn.Module, *sides: int) -> list[int]:
    """How many graphs there are after a patch of each size, compiled as a whole."""
    counter = CompileCounter()
    compiled = torch.compile(network, backend=counter, fullgraph=True)
    numbers = []
    for side in sides:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            compiled(torch.randn(2, 1, side, side))
        numbers.append(counter.frame_count)
    return numbers


def test_sfmanet_is_one_graph_per_patch_size():
    block = load_preset("sfmanet").architecture
    block["arch_kwargs"] |= {"features_per_stage": [32, 64], "iem_stages": 1}
    with torch.no_grad():
        assert graphs(accelerate(build_network(block, 1, 2)), 64, 64, 96) == [1, 1, 2]


class Item(nn.Module):
    def forward(self, x):
        return x * x.max().item() if x.max().item() > 0 else x


def test_a_network_that_breaks_its_graph_is_seen():
    with pytest.raises((torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError)):
        graphs(Item(), 8)
