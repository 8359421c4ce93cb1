"""Linear layers that are computed as convolutions."""

import copy

import pytest
import torch
from torch import nn

from nnunet_sfma.networks.accelerate import accelerate
from nnunet_sfma.networks.accelerate.linear import Linear


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 3, 4, 5), (0, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torchs_with_and_without_gradients(shape, bias):
    layer = nn.Linear(5, 7, bias=bias).double()
    fast, x = accelerate(nn.Sequential(copy.deepcopy(layer))), torch.randn(shape, dtype=torch.double)
    expected = layer(x)
    torch.testing.assert_close(fast(x), expected)
    with torch.no_grad():
        found = fast(x)
    torch.testing.assert_close(found, expected.detach())
    assert isinstance(fast[0], Linear) and found.shape == (*shape[:-1], 7)


def test_parameters_stay_the_same_objects():
    model = nn.ModuleDict({"first": nn.Linear(3, 4), "rest": nn.Sequential(nn.GELU(), nn.Linear(4, 2, bias=False))})
    before, names = list(model.parameters()), list(model.state_dict())
    after = accelerate(model)
    assert all(first is second for first, second in zip(before, after.parameters(), strict=True))
    assert list(after.state_dict()) == names
