"""HAP against equations 2-5 and the remedies it needs."""

import pytest
import torch
from torch import nn

from nnunet_sfma.networks.danie.hierarchical_attention import (
    HierarchicalAttentionalPerception,
    HierarchicalAttentionBlock,
)
from tests.networks.danie.reference import conv_block, conv_norm_gelu, gelu, given_to, inputs, randomised, sigmoid

# the block's arguments, and the equations that its branches then take, in this order
VARIANTS = {
    "default": ({}, ("channel", "spatial")),
    "spatial first": ({"attention_order": "spatial_channel"}, ("spatial", "channel")),
    "w/o channel": ({"channel_attention": False}, ("spatial",)),
    "w/o spatial": ({"spatial_attention": False}, ("channel",)),
    "w/o both": ({"channel_attention": False, "spatial_attention": False}, ()),
    "fixed calibration": ({"dynamic_calibration": False}, ("channel", "spatial")),
}


def reference_channel(block: HierarchicalAttentionBlock, h: torch.Tensor, pool) -> torch.Tensor:
    """Equation 2 for one image."""
    first, second = block.mlp[0], block.mlp[2]
    pooled = torch.stack([pool(plane) for plane in h])
    hidden = gelu(first.weight[:, :, 0, 0] @ pooled + first.bias)
    weights = sigmoid(second.weight[:, :, 0, 0] @ hidden + second.bias)
    return torch.stack([weight * plane for weight, plane in zip(weights, h, strict=True)])


def reference_spatial(block: HierarchicalAttentionBlock, m: torch.Tensor, pool) -> torch.Tensor:
    """Equation 3 for one image."""
    assert block.position.weight.numel() == 1
    out = torch.empty_like(m)
    for y in range(m.shape[1]):
        for x in range(m.shape[2]):
            logit = block.position.weight.squeeze() * pool(m[:, y, x]) + block.position.bias.squeeze()
            out[:, y, x] = sigmoid(logit) * m[:, y, x]
    return out


def reference_map(block: HierarchicalAttentionBlock, h: torch.Tensor, order: tuple[str, ...]) -> torch.Tensor:
    """A_d of one image, (C, H, W) to (H, W)."""
    calibrated = torch.zeros_like(h)
    for pool, omega in ((torch.max, block.omega_max), (torch.mean, block.omega_avg)):
        branch = h
        for equation in order:
            branch = {"channel": reference_channel, "spatial": reference_spatial}[equation](block, branch, pool)
        calibrated += omega * branch
    a_d = torch.empty_like(h[0])
    for y in range(h.shape[1]):
        for x in range(h.shape[2]):
            a_d[y, x] = sigmoid(block.calibrate.weight[0, :, 0, 0] @ calibrated[:, y, x] + block.calibrate.bias[0])
    return a_d


def reference(block: HierarchicalAttentionBlock, h: torch.Tensor, order: tuple[str, ...]) -> torch.Tensor:
    weighed = torch.stack([reference_map(block, image, order) * image for image in h])
    return conv_block(block.block, weighed)


def weighed(block: HierarchicalAttentionBlock, h: torch.Tensor) -> torch.Tensor:
    """A_d h, what the ConvBlock of equation 5 is given."""
    return given_to(block.block, block, h)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kwargs, order", VARIANTS.values(), ids=VARIANTS.keys())
def test_equations(kwargs, order, training):
    block, h = randomised(HierarchicalAttentionBlock(32, **kwargs)).train(training), 2 * inputs(2, 32, 4, 7)
    expected = reference(block, h, order)
    torch.testing.assert_close(block(h), expected)


def test_unknown_order_is_refused():
    with pytest.raises(ValueError, match="channel_spatial or spatial_channel, got 'both'"):
        HierarchicalAttentionBlock(32, attention_order="both")


def test_one_map_weighs_all_channels():
    block, h = randomised(HierarchicalAttentionBlock(32)), inputs(2, 32, 4, 7)
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
    block = randomised(HierarchicalAttentionBlock(32, spatial_attention=False))
    h = inputs(1, 32, 1, 1).expand(1, 32, 4, 7).clone().requires_grad_()
    weighed(block, h).sum().backward()
    torch.testing.assert_close(h.grad, h.grad[:, :, :1, :1].expand_as(h))


# the stream


@pytest.mark.parametrize("blocks", [1, 2])
def test_stream_is_its_stages_in_turn(blocks):
    stream = randomised(HierarchicalAttentionalPerception(3, (16, 24, 40), blocks, {})).eval()
    x = inputs(2, 3, 32, 48)
    features = stream(x)
    assert [tuple(f.shape) for f in features] == [(2, 16, 8, 12), (2, 24, 4, 6), (2, 40, 2, 3)]
    embedding = stream.entries[0]
    assert [unit[0].out_channels for unit in embedding] == [8, 16]
    x = conv_norm_gelu(embedding[1], conv_norm_gelu(embedding[0], x, stride=2), stride=2)
    for i, stage in enumerate(stream.stages):
        x = x if i == 0 else conv_norm_gelu(stream.entries[i], x, stride=2)
        assert len(stage) == blocks
        for block in stage:
            x = reference(block, x, ("channel", "spatial"))
        torch.testing.assert_close(features[i], x)


def test_every_block_has_the_attention_asked_for():
    stream = HierarchicalAttentionalPerception(1, (32, 32), 2, {"attention_order": "spatial_channel"})
    blocks = [module for module in stream.modules() if isinstance(module, HierarchicalAttentionBlock)]
    assert [block.spatial_first for block in blocks] == [True] * 4
