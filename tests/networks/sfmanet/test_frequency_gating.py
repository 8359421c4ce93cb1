"""FGU against equations 8-14 and the remedies it needs."""

import copy

import pytest
import torch
from torch.nn import functional as F

from nnunet_sfma.networks.sfmanet.frequency_gating import ChannelPermutation, FrequencyGatingUnit
from nnunet_sfma.networks.sfmanet.gated_skip import GatedSkip


def pointwise(conv: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    assert conv.bias is None
    return torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0].double(), x)


def permuted(permutation: ChannelPermutation, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x[:, source] for source in permutation.order.tolist()], dim=1)


def reference(unit: FrequencyGatingUnit, x: torch.Tensor, alpha: float, rescale: bool) -> torch.Tensor:
    x = x.double()
    channels = x.shape[1]
    high = int(alpha * channels)
    u = permuted(unit.permute_high, pointwise(unit.squeeze_high, x[:, :high]))
    low = permuted(unit.permute_low, pointwise(unit.squeeze_low, x[:, high:]))
    weight, bias = unit.group_conv.weight.double(), unit.group_conv.bias.double()
    grouped = []
    for g in range(4):
        inputs = u[:, g * u.shape[1] // 4 : (g + 1) * u.shape[1] // 4]
        outputs = slice(g * channels // 4, (g + 1) * channels // 4)
        grouped.append(F.conv2d(inputs, weight[outputs], bias[outputs], padding=1))
    y1 = torch.cat(grouped, dim=1) + pointwise(unit.point_conv_high, u)
    y3 = torch.cat([y1, pointwise(unit.point_conv_low, low), low], dim=1)
    assert y3.shape[1] == 2 * channels
    out = torch.zeros_like(x)
    for b in range(x.shape[0]):
        e = torch.stack([torch.exp(y3[b, c].mean()) for c in range(2 * channels)])
        weights = e / e.sum() * (2 * channels if rescale else 1)
        for c in range(channels):
            for half, permutation in enumerate((unit.permute_first, unit.permute_second)):
                source = half * channels + permutation.order[c]
                out[b, c] += weights[source] * y3[b, source]
    return out


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("channels, alpha", [(16, 0.5), (32, 0.25), (32, 0.75)])
def test_equations(channels, alpha, rescale):
    unit, x = FrequencyGatingUnit(channels, alpha=alpha, rescale=rescale), 3 * torch.randn(2, channels, 5, 9)
    torch.testing.assert_close(unit(x), reference(unit, x, alpha, rescale).float(), rtol=1e-4, atol=1e-5)


# the starved path


def gradient_ratio(channels: int = 128, **fgu) -> float:
    """Gradient of FGU's grouped convolution relative to that of SGU's first attention convolution, in one skip."""
    torch.manual_seed(0)
    skip = GatedSkip(channels, {}, fgu, dmau=True, init_pointwise=False)
    x = torch.randn(2, channels, 12, 16)
    (skip(x) * torch.randn_like(x)).mean().backward()
    frequency, spatial = skip.fgu.group_conv.weight.grad, skip.sgu.attention[0].weight.grad
    return (frequency.square().mean().sqrt() / spatial.square().mean().sqrt()).item()


def test_frequency_path_learns_as_fast_as_the_spatial_path():
    assert gradient_ratio() > 0.1


def test_frequency_path_starves_with_equation_13_to_the_letter():
    literal = gradient_ratio(rescale=False)
    assert literal < 0.1
    assert gradient_ratio(rescale=True) / literal == pytest.approx(256, rel=0.2)


def test_rescaling_is_a_factor():
    unit = FrequencyGatingUnit(16)
    literal, x = copy.deepcopy(unit), torch.randn(2, 16, 5, 9)
    literal.weigh.rescale = False
    torch.testing.assert_close(unit(x), 32 * literal(x))


# permutations

ORDERS = {"permute_high.order": 4, "permute_low.order": 4, "permute_first.order": 16, "permute_second.order": 16}


def test_permutations_are_saved():
    state = FrequencyGatingUnit(16).state_dict()
    for name, length in ORDERS.items():
        assert state[name].dtype == torch.int64
        assert state[name].sort().values.tolist() == list(range(length))


def test_permutations_permute():
    state = FrequencyGatingUnit(64).state_dict()
    first, second = state["permute_first.order"], state["permute_second.order"]
    assert not torch.equal(first, second)
    for order in (first, second, state["permute_high.order"], state["permute_low.order"]):
        assert not torch.equal(order, torch.arange(len(order)))


def test_permutations_neither_use_nor_touch_the_global_random_state():
    torch.manual_seed(1)
    one = FrequencyGatingUnit(16).state_dict()
    torch.manual_seed(2)
    other = FrequencyGatingUnit(16).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in ORDERS)
    before = torch.get_rng_state()
    ChannelPermutation(16, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_permutations_survive_forward_passes():
    unit, x = FrequencyGatingUnit(16), torch.randn(1, 16, 5, 9)
    before, first = copy.deepcopy(unit.state_dict()), unit(x)
    assert torch.equal(unit(x), first)
    assert all(torch.equal(unit.state_dict()[name], before[name]) for name in ORDERS)


def test_saved_permutations_win_over_those_of_the_seed():
    trained, fresh, x = FrequencyGatingUnit(16, seed=1), FrequencyGatingUnit(16, seed=2), torch.randn(1, 16, 5, 9)
    assert not torch.equal(trained.permute_first.order, fresh.permute_first.order)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(x), trained(x))


def test_float16_survives_the_rescaled_weights():
    # One channel takes the whole softmax: its weight is 2C, and 2C times the channel leaves float16's range.
    unit, x = FrequencyGatingUnit(64), 1000 * torch.randn(2, 64, 8, 12)
    assert unit(x).abs().max() > 65504, "the float32 result would fit into float16: nothing is tested"
    with torch.autocast("cpu", dtype=torch.float16):
        assert unit(x).isfinite().all()


@pytest.mark.parametrize("channels, alpha", [(24, 0.5), (16, 0.25), (48, 0.75), (10, 0.25)])
def test_widths_that_do_not_divide_are_refused(channels, alpha):
    with pytest.raises(ValueError, match=str(channels)):
        FrequencyGatingUnit(channels, alpha=alpha)
