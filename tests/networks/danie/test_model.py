"""DANIE as a whole: the contract of every network, its sizes, its switches and its remedies."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.danie import DANIE, EnhancingSelfAttention, HierarchicalAttentionBlock
from nnunet_sfma.networks.danie.joint_preservation import FUSIONS
from tests.networks.contract import NetworkContract
from tests.networks.probing import by_equations
from tests.reference.danie_equations import prediction

S = {"backbone": "maxvit_tiny_tf_224", "features_per_stage": (64, 128, 256, 512)}
L = {"backbone": "maxvit_small_tf_224", "features_per_stage": (96, 192, 384, 768)}

REFUSED = {
    "backbone": ({"backbone": "maxvit_base_tf_224"}, "maxvit_tiny_tf_224 or maxvit_small_tf_224"),
    "width": ({"features_per_stage": (32, 64, 80, 128)}, "multiples of 32"),
    "three stages": ({"features_per_stage": (32, 64, 96)}, "four multiples"),
    "three depths": ({"depths": (1, 1, 1)}, "four whole numbers"),
    "fusion": ({"fusion": "mean"}, "fusion must be one of .*got 'mean'"),
    "order": ({"attention_order": "spatial"}, "channel_spatial or spatial_channel, got 'spatial'"),
    "no stream": ({"self_attention": False, "hierarchical_attention": False, "fusion": "add"}, "0 streams"),
    **{
        f"{fusion} of one stream": ({stream: False, "fusion": fusion}, f"1 streams cannot be fused by {fusion}")
        for fusion, stream in zip(FUSIONS, ["self_attention", "hierarchical_attention"] * 3, strict=False)
        if fusion != "add"
    },
}


def narrow(**kwargs) -> DANIE:
    sizes = {"image_size": (64, 96), "features_per_stage": (32, 32, 64, 64), "depths": (1, 1, 1, 1)}
    return DANIE(**{"input_channels": 1, "num_classes": 2, "backbone": "maxvit_tiny_tf_224", **sizes, **kwargs})


def on_meta(**kwargs) -> DANIE:
    with torch.device("meta"):
        return DANIE(**{"input_channels": 3, "num_classes": 9, "image_size": (256, 256), **kwargs})


def cancelled_by_batch_norm(depths: tuple[int, ...]) -> frozenset[str]:
    """What only adds a constant before a batch normalisation.

    These are biases of timm's layers, directly before one or with a 1x1 convolution in between. Published weights hold
    them, so they have to stay.
    """
    blocks = [f"stages_{stage}.blocks.{block}" for stage, depth in enumerate(depths) for block in range(depth)]
    names = ["stem.conv1.bias", *(f"{block}.conv.pre_norm.0.bias" for block in blocks)]
    return frozenset(f"sap.maxvit.{name}" for name in names)


class TestDANIES(NetworkContract):
    sizes = [(64, 96), (50, 70), (33, 96)]
    size = (64, 96)
    cancelled = cancelled_by_batch_norm((1, 1, 1, 1))

    def build(self, input_channels: int, num_classes: int) -> nn.Module:
        return narrow(input_channels=input_channels, num_classes=num_classes, blocks_per_stage=1)


class TestDANIEL(NetworkContract):
    sizes = [(64, 64), (50, 37)]
    size = (50, 64)
    cancelled = cancelled_by_batch_norm((1, 1, 2, 1))

    def build(self, input_channels: int, num_classes: int) -> nn.Module:
        widths, depths = (32, 64, 96, 128), (1, 1, 2, 1)
        return DANIE(input_channels, num_classes, (50, 64), "maxvit_small_tf_224", widths, depths)

    # minutes for what TestDANIES compiles as well: the same layers in other numbers
    test_compiles_to_one_graph = None
    test_compiles_with_inductor = None


# the published sizes


@pytest.mark.parametrize("size", [S, L], ids=["S", "L"])
@pytest.mark.parametrize("channels, image_size", [(3, (256, 256)), (1, (320, 224))])
def test_shapes_at_full_size(channels, image_size, size):
    net = on_meta(input_channels=channels, image_size=image_size, **size)
    image = torch.empty(1, channels, *image_size, device="meta")
    assert net(image).shape == (1, 9, *image_size)
    shapes = [(1, c, image_size[0] // 2**i, image_size[1] // 2**i) for i, c in enumerate(size["features_per_stage"], 2)]
    for stream in (net.sap, net.hap):
        assert [tuple(feature.shape) for feature in stream(image)] == shapes


def test_defaults_are_danie_l():
    default, explicit = on_meta(), on_meta(**L, image_size=(256, 256), depths=(2, 2, 5, 2), blocks_per_stage=2)
    assert str(default) == str(explicit)
    assert [len(stage) for stage in default.hap.stages] == [2, 2, 2, 2]
    assert [unit.scale for unit in default.modules() if isinstance(unit, EnhancingSelfAttention)] == [None] * 4


@pytest.mark.parametrize("size, name", [(S, "maxvit_tiny_tf_224"), (L, "maxvit_small_tf_224")], ids=["S", "L"])
def test_weights_are_those_of_timm(size, name):
    assert on_meta(**size, image_size=(320, 224)).pretrained_part.weights_name == f"timm/{name}.in1k"


@pytest.mark.parametrize(
    "kwargs",
    [
        {**S, "features_per_stage": (32, 64, 96, 128)},
        {**S, "backbone": L["backbone"]},
        {**L, "depths": (2, 2, 4, 2)},
    ],
    ids=["narrow", "widths of the other", "other depths"],
)
def test_nobody_has_weights_for_other_sizes(kwargs):
    assert on_meta(**kwargs).pretrained_part.weights_name is None


# the size of the image


@pytest.mark.parametrize(
    "size, padded",
    [
        ((1, 1), (64, 64)),
        ((32, 64), (64, 64)),
        ((64, 65), (64, 96)),
        ((96, 97), (96, 128)),
        ((320, 224), (320, 224)),
        ((511, 33), (512, 64)),
    ],
)
def test_padded_size(size, padded):
    assert DANIE.padded_size(size) == padded
    net = narrow(image_size=list(size), depths=[1, 1, 1, 1])
    assert net.sap.settings["img_size"] == padded


@pytest.mark.parametrize("size", [(50, 70), (64, 95), (1, 1)])
def test_smaller_images_are_padded_with_zeros_and_cropped(size):
    net, x = narrow(image_size=(50, 70)).eval(), torch.randn(1, 1, *size)
    padded = torch.zeros(1, 1, 64, 96)
    padded[..., : size[0], : size[1]] = x
    assert torch.equal(net(x), net(padded)[..., : size[0], : size[1]])


@pytest.mark.parametrize("size", [(128, 192), (96, 96), (64, 97)])
def test_larger_images_are_refused(size):
    with pytest.raises(ValueError, match=rf"\(batch, 1, 64, 96\) or smaller, got \(2, 1, {size[0]}, {size[1]}\)"):
        narrow()(torch.randn(2, 1, *size))


def test_maxvit_itself_would_not_refuse_them():
    # It runs, with twice the windows it was made for, which is why the network has to refuse.
    assert narrow().sap(torch.randn(1, 1, 128, 192))[3].shape == (1, 64, 4, 6)


@pytest.mark.parametrize("shape", [(1, 64, 96), (1, 1, 3, 64, 96)])
def test_what_is_no_batch_of_2d_images_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(batch, 1, 64, 96\)"):
        narrow()(torch.randn(shape))


@pytest.mark.parametrize("image_size", [256, (256,), (1, 64, 96), (0, 64), (64, -32)])
def test_wrong_image_sizes_are_refused(image_size):
    with pytest.raises(ValueError, match="height and width"):
        narrow(image_size=image_size)


def test_one_small_image_trains():
    # At one pixel per channel in the deepest stage a batch normalisation would have a single number.
    net = narrow(image_size=(32, 32)).train()
    net(torch.randn(1, 1, 32, 32)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert net.hap.stages[3][1].block[1][0].weight.grad.any()


# streams, attentions and fusions


@pytest.mark.parametrize("kwargs, rule", REFUSED.values(), ids=REFUSED.keys())
def test_refused_configurations(kwargs, rule):
    with pytest.raises(ValueError, match=rule):
        narrow(**kwargs)


@pytest.mark.parametrize("absent, present", [("self_attention", "hap"), ("hierarchical_attention", "sap")])
def test_single_streams(absent, present):
    net, x = narrow(fusion="add", **{absent: False}).eval(), torch.randn(1, 1, 64, 96)
    assert {name.split(".")[0] for name in net.state_dict()} == {present, "joint_preservation", "heads"}
    features = getattr(net, present)(x)
    assert torch.equal(net(x), net.heads(net.joint_preservation(features), (64, 96)))


def test_fusions_differ_and_share_the_rest():
    plain, x = narrow(fusion="add"), torch.randn(1, 1, 64, 96)
    outputs = []
    for fusion in FUSIONS:
        net = narrow(fusion=fusion).eval()
        unfused = {name for name in net.state_dict() if not name.startswith("joint_preservation.fusions.")}
        assert unfused == plain.state_dict().keys()
        net.load_state_dict(plain.state_dict(), strict=False)
        for unit in net.modules():
            if isinstance(unit, EnhancingSelfAttention):
                nn.init.ones_(unit.gain)
        outputs.append(net(x))
    assert len(outputs) == 5
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.combinations(outputs, 2))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusions_train(fusion):
    net = narrow(fusion=fusion).train()
    logits = net(torch.randn(2, 1, 64, 96))
    (logits * torch.randn_like(logits)).mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    "kwargs, has",
    [
        ({}, lambda block: block.mlp and block.position and not block.spatial_first),
        ({"channel_attention": False}, lambda block: block.mlp is None and block.position),
        ({"spatial_attention": False}, lambda block: block.mlp and block.position is None),
        ({"attention_order": "spatial_channel"}, lambda block: block.spatial_first),
        ({"dynamic_calibration": False}, lambda block: block.omega_max == block.omega_avg == 1),
    ],
    ids=["default", "w/o channel", "w/o spatial", "spatial first", "fixed calibration"],
)
def test_switches_of_the_hierarchical_stream(kwargs, has):
    blocks = [module for module in narrow(**kwargs).modules() if isinstance(module, HierarchicalAttentionBlock)]
    assert len(blocks) == 8
    assert all(has(block) for block in blocks)


def test_switches_of_joint_preservation():
    net = narrow(es_scale=0.5, jp_fuse_conv=False)
    assert [unit.scale for unit in net.modules() if isinstance(unit, EnhancingSelfAttention)] == [0.5] * 4
    assert not [name for name in net.state_dict() if ".fuse." in name]
    assert len([name for name in narrow().state_dict() if name.endswith(".fuse.0.weight")]) == 4


def test_both_streams_see_the_image_and_are_not_mixed_up():
    net, x = narrow().eval(), torch.randn(1, 1, 64, 96)
    expected = net.heads(net.joint_preservation(net.sap(x), net.hap(x)), (64, 96))
    assert torch.equal(net(x), expected)


def test_tables_of_positions_are_not_to_decay():
    net = narrow()
    tables = {name for name, p in net.named_parameters() if p.ndim == 3}
    assert len(tables) == 8
    single = {name for name, p in net.named_parameters() if p.numel() == 1}
    assert (
        len(single) == 4 + 8 * 5
    )  # lambda of each stage; of each block two omega, factor and bias of eq. 3, bias of eq. 5
    assert net.no_weight_decay() >= tables | single
    assert not {name for name, p in net.named_parameters() if p.ndim == 4 and p.numel() > 1} & net.no_weight_decay()


def test_a_network_without_maxvit_takes_no_weights():
    assert narrow(self_attention=False, fusion="add").pretrained_part is None


# the heads


def test_logits_are_the_sum_of_four_raised_predictions():
    net, x, maps = narrow().eval(), torch.randn(2, 1, 64, 96), []
    net.joint_preservation.register_forward_hook(lambda _, given, out: maps.extend(out))
    y = net(x)
    assert len(maps) == len(net.heads.seg_layers) == 4
    expected = by_equations(lambda weights, *maps: prediction(weights, maps, (64, 96)), net.heads, *maps)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-5)


def test_biases_of_the_heads_add_up():
    net = narrow().eval()
    for i, head in enumerate(net.heads.seg_layers):
        nn.init.zeros_(head.weight)
        nn.init.constant_(head.bias, 10.0**i)
    assert (net(torch.randn(1, 1, 50, 70)) == 1111).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_are_raised_and_added_in_float32(dtype):
    heads = narrow().heads
    maps = [torch.randn(1, width, 16 // 2**i, 24 // 2**i) for i, width in enumerate((32, 32, 64, 64))]
    with torch.autocast("cpu", dtype=dtype):
        y = heads(maps, (64, 96))
        predictions = [head(j) for head, j in zip(heads.seg_layers, maps, strict=True)]
    assert {p.dtype for p in predictions} == {dtype}
    expected = sum(F.interpolate(p.float(), size=(64, 96), mode="bilinear") for p in predictions)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)


# float16: equation 6 is quadratic in features that MaxViT does not normalise


def loud_network() -> tuple[DANIE, torch.Tensor]:
    """A network with large features in its MaxViT stream and settled running statistics, and its image."""
    net, x = narrow(), torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        net.sap.maxvit.stem.conv2.weight.mul_(100)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # cumulative: the first batch's statistics are the running statistics
            if isinstance(module, EnhancingSelfAttention):
                module.gain.fill_(1.0)
        net.train()(x)
    return net, x


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_float16_survives_the_products_of_equation_6(training):
    net, x = loud_network()
    net.train(training)
    features, enhanced = [], []
    unit = net.joint_preservation.fusions[0].es
    unit.register_forward_pre_hook(lambda _, given: features.append(given[0]))
    unit.register_forward_hook(lambda _, given, out: enhanced.append(out))
    with torch.no_grad():
        net(x)
        with torch.autocast("cpu", dtype=torch.float16):
            logits = net(x)
    rows = features[0].flatten(2)
    assert (rows @ rows.mT).max() > 2 * 65504, "the float32 products would fit into float16: nothing is tested"
    assert features[1].abs().max() < 6550, "the feature itself is close to the end of float16"
    assert features[1].dtype == enhanced[1].dtype == torch.float16
    assert enhanced[1].isfinite().all()
    assert logits.isfinite().all()
