"""The remedies that HAP needs; test_against_equations.py holds it against equations 2-5."""

import pytest
import torch
from torch import nn

from nnunet_sfma.networks.danie.hierarchical_attention import (
    HierarchicalAttentionalPerception,
    HierarchicalAttentionBlock,
)
from tests.networks.probing import given_to, inputs, randomised


def weighed(block: HierarchicalAttentionBlock, h: torch.Tensor) -> torch.Tensor:
    """A_d h, what the ConvBlock of equation 5 is given."""
    return given_to(block.block, block, h)


def test_unknown_order_is_refused():
    with pytest.raises(ValueError, match="channel_spatial or spatial_channel, got 'both'"):
        HierarchicalAttentionBlock(32, attention_order="both")


def test_one_map_weighs_all_channels():
    block, h = randomised(HierarchicalAttentionBlock(32).double()), inputs(2, 32, 4, 7)
    ratio = weighed(block, h) / h
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert (ratio.amax((2, 3)) - ratio.amin((2, 3)) > 0.01).all()


# calibration


def test_calibration_starts_with_equal_scalars_of_sum_one():
    scalars = {name: p for name, p in HierarchicalAttentionBlock(32).named_parameters() if name.startswith("omega")}
    assert scalars.keys() == {"omega_max", "omega_avg"}
    assert all(p.shape == () and p == 0.5 for p in scalars.values())


def test_fixed_calibration_has_no_parameters_and_is_the_plain_sum():
    fixed, learned = HierarchicalAttentionBlock(32, dynamic_calibration=False), HierarchicalAttentionBlock(32)
    assert not [name for name in fixed.state_dict() if "omega" in name]
    learned.load_state_dict(fixed.state_dict(), strict=False)
    nn.init.ones_(learned.omega_max)
    nn.init.ones_(learned.omega_avg)
    h = torch.randn(2, 32, 4, 7)
    assert torch.equal(fixed(h), learned(h))


# the two attentions


@pytest.mark.parametrize("channels, hidden", [(32, 8), (96, 8), (128, 8), (256, 16), (768, 48)])
def test_the_mlp_has_enough_hidden_units(channels, hidden):
    with torch.device("meta"):
        mlp = HierarchicalAttentionBlock(channels).mlp
    assert [tuple(p.shape[:2]) for p in (mlp[0].weight, mlp[2].weight)] == [(hidden, channels), (channels, hidden)]


def test_both_branches_share_one_mlp_and_one_position_convolution():
    block = HierarchicalAttentionBlock(32)
    count = {name: sum(p.numel() for p in getattr(block, name).parameters()) for name in ("mlp", "position")}
    assert count == {"mlp": 2 * 32 * 8 + 8 + 32, "position": 2}


def test_tied_maxima_share_the_gradient():
    # Of equal positions a pooling by index would prefer one.
    block = randomised(HierarchicalAttentionBlock(32, spatial_attention=False).double())
    h = inputs(1, 32, 1, 1).expand(1, 32, 4, 7).clone().requires_grad_()
    weighed(block, h).sum().backward()
    torch.testing.assert_close(h.grad, h.grad[:, :, :1, :1].expand_as(h))


# the stream


@pytest.mark.parametrize("blocks", [1, 2])
def test_stages_halve_the_size(blocks):
    stream = HierarchicalAttentionalPerception(3, (16, 24, 40), blocks, {}).eval()
    features = stream(torch.randn(2, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [(2, 16, 8, 12), (2, 24, 4, 6), (2, 40, 2, 3)]
    assert [unit[0].out_channels for unit in stream.entries[0]] == [8, 16]
    assert [len(stage) for stage in stream.stages] == [blocks] * 3


def test_every_block_has_the_attention_asked_for():
    stream = HierarchicalAttentionalPerception(1, (32, 32), 2, {"attention_order": "spatial_channel"})
    blocks = [module for module in stream.modules() if isinstance(module, HierarchicalAttentionBlock)]
    assert [block.spatial_first for block in blocks] == [True] * 4
