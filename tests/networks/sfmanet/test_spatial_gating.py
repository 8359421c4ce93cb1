"""SGU against equations 1-7 and the remedies it needs."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.sfmanet.spatial_gating import SpatialGatingUnit, SpatialGroupNorm


def randomised(channels: int, **kwargs) -> SpatialGatingUnit:
    unit = SpatialGatingUnit(channels, **kwargs)
    nn.init.normal_(unit.norm.weight)
    nn.init.normal_(unit.norm.bias)
    return unit


def gates(unit: SpatialGatingUnit, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """W1 and W2 of equation 5 as the unit's gate returns them."""
    seen = []
    handle = unit.gate.register_forward_hook(lambda _, given, returned: seen.append(returned))
    unit(x)
    handle.remove()
    return seen[0]


def reference_gate(unit: SpatialGatingUnit, x: torch.Tensor, groups: int) -> torch.Tensor:
    """R of equation 5, channel by channel."""
    gamma, beta = unit.norm.weight.double(), unit.norm.bias.double()
    size = x.shape[1] // groups
    r = torch.empty_like(x)
    for i in range(x.shape[1]):
        group = slice(i // size * size, i // size * size + size)
        w = gamma[i] / (gamma[group].abs().mean() + 1e-3) + beta[i] / (beta[group].abs().mean() + 1)
        for b in range(x.shape[0]):
            tile = x[b, group]
            normalised = (x[b, i] - tile.mean()) / (tile.var(correction=0) + 1e-5).sqrt()
            r[b, i] = 1 / (1 + torch.exp(-w * (gamma[i] * normalised + beta[i])))
    return r


def reference(unit: SpatialGatingUnit, x: torch.Tensor, groups: int, threshold: float) -> torch.Tensor:
    x = x.double()
    r = reference_gate(unit, x, groups)
    x1 = torch.where(r > threshold, torch.ones_like(r), r) * x
    x2 = torch.where(r > threshold, torch.zeros_like(r), r) * x
    conv3, conv1 = (unit.attention[i] for i in (0, 1))
    hidden = F.conv2d(x1 + x2, conv3.weight.double(), conv3.bias.double(), padding=1)
    logit = torch.einsum("bchw,c->bhw", hidden, conv1.weight.double().flatten()) + conv1.bias.double()
    a = (1 / (1 + torch.exp(-logit)))[:, None]
    half = x.shape[1] // 2
    return torch.cat([(x1[:, :half] + x2[:, half:]) * a, (x1[:, half:] + x2[:, :half]) * a], dim=1)


@pytest.mark.parametrize("scale", [1.0, 3e-3], ids=["usual", "variance near epsilon"])
@pytest.mark.parametrize("channels, groups", [(16, 4), (64, 16)])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_equations(channels, groups, threshold, scale):
    unit, x = randomised(channels, threshold=threshold), scale * torch.randn(2, channels, 5, 9)
    expected = reference(unit, x, groups, threshold).float()
    torch.testing.assert_close(unit(x), expected, rtol=1e-3, atol=1e-4 * scale)


# equation 4


@pytest.mark.parametrize("channels", [4, 16, 64, 512])
def test_weights_start_finite_and_near_one(channels):
    w = SpatialGroupNorm(channels).correlation_weights()
    assert w.shape == (channels,)
    torch.testing.assert_close(w, torch.ones(channels), rtol=0, atol=2e-3)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3, 1.0])
def test_gradient_of_beta_is_bounded(size):
    norm = SpatialGroupNorm(16)
    nn.init.normal_(norm.bias, std=size)
    w = norm.correlation_weights()
    jacobian = torch.stack([torch.autograd.grad(w_i, norm.bias, retain_graph=True)[0] for w_i in w])
    assert jacobian.isfinite().all()
    assert 0.1 < jacobian.abs().max() < 2


def test_signs_do_not_cancel_in_the_denominators():
    norm = SpatialGroupNorm(16)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -1.0]).repeat(8))
        norm.bias.copy_(torch.tensor([3.0, -3.0]).repeat(8))
    w = norm.correlation_weights()
    torch.testing.assert_close(w, torch.tensor([1.75, -1.75]).repeat(8), rtol=1e-2, atol=0)


def test_weights_depend_on_their_own_group_only():
    norm = SpatialGroupNorm(16)
    before = norm.correlation_weights().detach()
    with torch.no_grad():
        norm.weight[1] = 5.0
        norm.bias[2] = 5.0
    changed = norm.correlation_weights() != before
    assert changed[:4].all() and not changed[4:].any()


def test_gamma_and_beta_learn_from_the_start():
    # They act through the gate alone: a gate of 0 and 1 would leave both without any gradient.
    unit, x = SpatialGatingUnit(16), torch.randn(2, 16, 8, 12)
    (unit(x) * torch.randn_like(x)).mean().backward()
    scale = unit.attention[0].weight.grad.square().mean().sqrt()
    for parameter in (unit.norm.weight, unit.norm.bias):
        assert (parameter.grad.abs() > 1e-3 * scale).all()
        assert (parameter.grad.abs() < 1e3 * scale).all()


# the gate


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_gate_keeps_r_below_the_threshold(threshold):
    unit, x = randomised(16, threshold=threshold), torch.randn(2, 16, 5, 9)
    w1, w2 = gates(unit, x)
    r = reference_gate(unit, x.double(), 4).float()
    above = r > threshold
    assert above.any() and not above.all()
    assert (w1[above] == 1).all() and (w2[above] == 0).all()
    torch.testing.assert_close(w1[~above], r[~above])
    assert torch.equal(w2[~above], w1[~above])


def test_gate_is_strict():
    unit = SpatialGatingUnit(16)
    nn.init.zeros_(unit.norm.weight)  # SGN gives 0, so R is 0.5 = t exactly
    w1, w2 = gates(unit, torch.randn(1, 16, 4, 6))
    assert (w1 == 0.5).all() and (w2 == 0.5).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_flip_the_gate(dtype):
    unit, x = randomised(16), torch.randn(2, 16, 32, 48).to(dtype)
    expected = gates(unit, x.float())
    with torch.autocast("cpu", dtype=dtype):
        found = gates(unit, x)
    for gate, wanted in zip(found, expected, strict=True):
        assert gate.dtype == torch.float32
        assert torch.equal(gate, wanted)


def test_a_converted_unit_still_gates_in_float32():
    unit, x = randomised(16).bfloat16(), torch.randn(2, 16, 8, 12).bfloat16()
    expected = SpatialGatingUnit(16)
    expected.load_state_dict(unit.state_dict())
    assert torch.equal(gates(unit, x)[0], gates(expected, x.float())[0])


@pytest.mark.parametrize("channels", [7, 18, 66])
def test_widths_that_do_not_divide_are_refused(channels):
    with pytest.raises(ValueError, match=str(channels)):
        SpatialGatingUnit(channels)
