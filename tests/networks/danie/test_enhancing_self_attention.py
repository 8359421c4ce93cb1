"""The remedies that ES needs; test_against_equations.py holds it against equations 6-7."""

import math

import pytest
import torch
from torch import nn

from nnunet_sfma.networks.danie.enhancing_self_attention import EnhancingSelfAttention
from tests.networks.probing import by_equations, inputs
from tests.reference.danie_equations import correlations, enhanced_self_attention


def expected_weights(unit: EnhancingSelfAttention, s: torch.Tensor) -> torch.Tensor:
    """The source in the rows."""
    return by_equations(correlations, unit, s, scale=unit.scale)


def expected_output(unit: EnhancingSelfAttention, s: torch.Tensor) -> torch.Tensor:
    return by_equations(enhanced_self_attention, unit, s, scale=unit.scale)


def with_gain(gain: float, scale: float | None = None) -> EnhancingSelfAttention:
    unit = EnhancingSelfAttention(scale)
    nn.init.constant_(unit.gain, gain)
    return unit


@pytest.mark.parametrize("scale", [None, 0.1])
def test_each_target_has_weights_that_sum_to_one(scale):
    unit, s = EnhancingSelfAttention(scale), 0.5 * inputs(2, 6, 3, 5)
    w = unit.weights(s)
    torch.testing.assert_close(w, expected_weights(unit, s).mT)
    torch.testing.assert_close(w.sum(2), torch.ones(2, 6, dtype=torch.float64))
    assert (w.sum(1) - 1).abs().max() > 0.05


def test_sources_are_summed_and_not_the_target():
    # The second channel is like the first but weak, so its weights pick the first; the third is like none.
    s = torch.zeros(1, 3, 2, 4)
    s[0, 0, 0], s[0, 1, 0], s[0, 2, 1] = 10.0, 1.0, 5.0
    expected = s.clone()
    expected[0] += s[0, [0, 0, 2]]
    torch.testing.assert_close(with_gain(1.0)(s), expected)


def test_starts_as_the_identity():
    unit, s = EnhancingSelfAttention(), torch.randn(2, 6, 3, 5)
    assert [(name, p.shape, p.item()) for name, p in unit.named_parameters()] == [("gain", (), 0.0)]
    assert torch.equal(unit(s), s)


def test_gain_learns_from_the_start():
    unit, s, seed = EnhancingSelfAttention().double(), 0.5 * inputs(2, 6, 3, 5), inputs(2, 6, 3, 5)
    (unit(s) * seed).sum().backward()
    expected = ((expected_output(with_gain(1.0), s) - s) * seed).sum()
    assert expected.abs() > 1
    torch.testing.assert_close(unit.gain.grad, expected)


# the products grow with the number of positions


def loud(dtype: torch.dtype) -> torch.Tensor:
    """Similar channels of 4096 whole numbers: float32 holds their products, of which none fits float16, exactly."""
    common = torch.randint(-8, 9, (1, 1, 64, 64))
    change = torch.randint(-1, 2, (1, 6, 64, 64)) * (torch.rand(1, 6, 64, 64) < 0.005) * (common.abs() <= 1)
    s = common + change
    assert torch.einsum("bihw,bjhw->bij", s, s).min() > torch.finfo(torch.float16).max
    return s.to(dtype)


@pytest.mark.parametrize("scale", [None, 1 / 4096], ids=["literal", "scaled"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_reach_the_products(dtype, scale):
    unit, s = with_gain(1.0, scale), loud(dtype)
    expected = expected_weights(unit, s)[0].T
    if scale is None:
        assert 0.05 < expected.max(1).values.mean() < 0.95, "neither uniform nor a single source: nothing is tested"
    with torch.autocast("cpu", dtype=dtype):
        w, out = unit.weights(s), unit(s)
    assert (w.dtype, out.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(w[0].double(), expected, rtol=1e-5, atol=1e-7)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(out.double(), expected_output(unit, s), rtol=eps, atol=eps)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_without_autocast_is_the_same(dtype):
    unit, s = with_gain(1.0), loud(dtype)
    with torch.autocast("cpu", dtype=dtype):
        expected = unit(s)
    assert torch.equal(unit(s), expected)


def test_gradients_are_finite_under_float16_autocast():
    unit, s = with_gain(1.0), loud(torch.float16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16):
        out = unit(s)
    out.float().mean().backward()
    assert unit.gain.grad.isfinite() and s.grad.isfinite().all()
    assert unit.gain.grad != 0


def entropy(w: torch.Tensor) -> torch.Tensor:
    """Mean over the targets, 0 for a single source and 1 for equal ones."""
    return -torch.special.xlogy(w, w).sum(-1).mean() / math.log(w.shape[-1])


def test_scale_raises_the_entropy():
    s = torch.randn(1, 16, 32, 32)
    assert entropy(EnhancingSelfAttention().weights(s)) < 1e-6
    assert entropy(EnhancingSelfAttention(1 / 1024).weights(s)) > 0.9
