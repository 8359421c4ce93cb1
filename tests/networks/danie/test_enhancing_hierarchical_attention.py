"""The remedies that EH needs; test_against_equations.py holds it against equations 8-9."""

import pytest
import torch
from torch import nn

from nnunet_sfma.networks.danie.enhancing_hierarchical_attention import EnhancingHierarchicalAttention
from tests.networks.probing import by_equations, given_to, inputs, randomised
from tests.reference.danie_equations import global_context


def context(unit: EnhancingHierarchicalAttention, h: torch.Tensor) -> torch.Tensor:
    return given_to(unit.integrate, unit, h)


def test_context_is_an_average_of_the_positions():
    # Not a sum, which a softmax over the one channel would give.
    unit, h = randomised(EnhancingHierarchicalAttention(16).double()), inputs(2, 16, 4, 7)
    torch.testing.assert_close(context(unit, h), by_equations(global_context, unit, h))
    constant = h[:, :, :1, :1].expand_as(h)
    torch.testing.assert_close(context(unit, constant), constant[:, :, 0, 0])


def test_a_dominant_position_is_the_context():
    unit, h = randomised(EnhancingHierarchicalAttention(16).double()), inputs(1, 16, 4, 7)
    direction = unit.context.weight[0, :, 0, 0].detach()
    h[0, :, 2, 5] += 100 * direction / direction.norm()
    torch.testing.assert_close(context(unit, h)[0], h[0, :, 2, 5])


def test_norm_is_over_the_channels_of_one_image():
    unit, h = randomised(EnhancingHierarchicalAttention(16).double()).train(), inputs(3, 16, 4, 7)
    torch.testing.assert_close(unit(h), torch.cat([unit(image[None]) for image in h]))
    assert not list(unit.buffers())
    assert unit.integrate[1].normalized_shape == (4,)


def test_one_image_of_one_pixel_trains():
    unit = EnhancingHierarchicalAttention(16).train()
    unit(torch.randn(1, 16, 1, 1)).square().sum().backward()
    # softmax over a single position is 1 whatever the score
    assert unit.context.weight.grad.abs().max() == 0
    assert all(p.grad.isfinite().all() and p.grad.any() for p in unit.integrate.parameters())


def test_the_convolutions_of_both_equations_are_different_layers():
    shapes = {name: tuple(p.shape) for name, p in EnhancingHierarchicalAttention(16).named_parameters()}
    assert shapes.pop("context.weight") == (1, 16, 1, 1)
    assert shapes == {
        "integrate.0.weight": (4, 16),
        "integrate.0.bias": (4,),
        "integrate.1.weight": (4,),
        "integrate.1.bias": (4,),
        "integrate.3.weight": (16, 4),
        "integrate.3.bias": (16,),
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_reach_the_sum_over_positions(dtype):
    unit, h = EnhancingHierarchicalAttention(16), torch.randn(1, 16, 64, 64).to(dtype)
    nn.init.zeros_(unit.context.weight)
    with torch.no_grad():
        unit.context.weight[0, 3] = 1.0  # the score is a channel, which half precision does not change
    with torch.autocast("cpu", dtype=dtype):
        seen, out = context(unit, h), unit(h)
    expected = by_equations(global_context, unit, h)[0]
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen[0].double(), expected, rtol=1e-5, atol=1e-6)
    assert out.dtype == dtype
