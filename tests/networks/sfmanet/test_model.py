import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks import SFMANet
from tests.networks.contract import NetworkContract

R1 = {"iem_stages": 3, "iem_fuse_kernel": 3, "iem_pointwise": False}
UNET = {"sfgu": False, "dmau": False, "iem_stages": 0}

# The six rows of the paper's Tables 3 and 4.
ABLATIONS = {
    "U-Net": UNET,
    "+SFGU": {"sfgu": True, "dmau": False, "iem_stages": 0},
    "+IEM": {"sfgu": False, "dmau": False, "iem_stages": 2},
    "+SFGU+IEM": {"sfgu": True, "dmau": False, "iem_stages": 2},
    "+SFGU+DMAU": {"sfgu": True, "dmau": True, "iem_stages": 0},
    "SFMANet": {"sfgu": True, "dmau": True, "iem_stages": 2},
}

REFUSED = {
    "width for the groups of FGU": ({"features_per_stage": [24, 48]}, "C % 16 == 0"),
    "width for alpha 0.25": ({"features_per_stage": [16, 32], "fgu_alpha": 0.25}, "C % 32 == 0"),
    "width for alpha 0.75": ({"features_per_stage": [16, 32], "fgu_alpha": 0.75}, "C % 32 == 0"),
    "alpha * C not whole": ({"fgu_alpha": 0.3}, "whole number of channels"),
    "alpha 1": ({"fgu_alpha": 1.0}, "alpha"),
    "squeeze": ({"fgu_squeeze": 3}, "squeeze 3 must divide"),
    "groups of FGU": ({"fgu_groups": 3}, "3 groups must divide"),
    "width for the IEM": ({"features_per_stage": [12, 24], "sfgu": False, "dmau": False}, "C/8.*12"),
    "groups of the IEM": ({"iem_fuse_groups": 3}, "3 fusion groups"),
    "even kernel of the IEM": ({"iem_fuse_kernel": 2}, "odd"),
    "too many stages with IEM": ({"iem_stages": 2}, "iem_stages lies between 0 and 1"),
    "negative number of stages with IEM": ({"iem_stages": -1}, "iem_stages lies between 0 and 1"),
    "one width": ({"features_per_stage": [16]}, "at least two widths"),
    "DMAU without SFGU": ({"sfgu": False}, "dmau.*sfgu"),
    "threshold 0": ({"sgu_threshold": 0.0}, "between 0 and 1"),
    "threshold 1": ({"sgu_threshold": 1.0}, "between 0 and 1"),
}


class TestSFMANet(NetworkContract):
    def build(self, input_channels: int, num_classes: int) -> nn.Module:
        return SFMANet(input_channels, num_classes, [16, 32])


@pytest.mark.parametrize(
    "config, millions", [({}, 36.92), (R1, 36.92), (UNET, 31.04)], ids=["default", "R1", "plain U-Net"]
)
def test_parameters_are_as_many_as_published(config, millions):
    with torch.device("meta"):
        net = SFMANet(1, 1, **config)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=5e-3)


@pytest.mark.parametrize("config", ABLATIONS.values(), ids=ABLATIONS.keys())
def test_ablation_rows(config):
    net = SFMANet(1, 2, [16, 32, 64], **config).eval()
    assert net(torch.randn(1, 1, 16, 24)).shape == (1, 2, 16, 24)
    kinds = [type(module).__name__ for module in net.modules()]
    assert kinds.count("SpatialGatingUnit") == kinds.count("FrequencyGatingUnit") == 2 * config["sfgu"]
    assert kinds.count("DualAxisMultiScaleAttentionUnit") == 2 * config["dmau"]
    assert kinds.count("InformationEnhancementModule") == config["iem_stages"]


def test_skip_without_dmau_is_the_sum_of_both_gates():
    skip = SFMANet(1, 1, [16, 32], dmau=False).skips[0]
    x_in = torch.randn(2, 16, 9, 13)
    x = skip.init(x_in)
    torch.testing.assert_close(skip(x_in), skip.sgu(x) + skip.fgu(x))


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_thresholds_and_alphas_of_the_paper(threshold, alpha):
    net = SFMANet(1, 1, [32, 64], sgu_threshold=threshold, fgu_alpha=alpha).eval()
    assert net(torch.randn(1, 1, 8, 12)).isfinite().all()
    assert net.skips[0].sgu.gate.threshold == threshold
    assert net.skips[0].fgu.squeeze_high.in_channels == alpha * 32


@pytest.mark.parametrize("config, rule", REFUSED.values(), ids=REFUSED.keys())
def test_refused_configurations(config, rule):
    with pytest.raises(ValueError, match=rule):
        SFMANet(1, 1, **{"features_per_stage": [32, 64], **config})


def test_defaults_are_those_of_the_reading():
    gated = SFMANet(1, 1, [16, 32]).skips[0]
    assert (gated.sgu.gate.threshold, gated.fgu.weigh.rescale, len(gated.init)) == (0.5, True, 1)
    assert gated.fgu.squeeze_high.weight.shape[:2] == (4, 8)
    assert gated.fgu.group_conv.groups == 4


def test_stages_without_iem_are_the_deepest():
    net = SFMANet(1, 1, [16, 32, 64], iem_stages=1)
    names = {name for name, module in net.named_modules() if type(module).__name__ == "InformationEnhancementModule"}
    assert names == {"encoder.iem.0"}


def test_skip_leaves_before_the_iem_and_the_next_stage_reads_behind_it():
    net = SFMANet(1, 1, [16, 32]).eval()
    seen = {}
    for name in ("encoder.stages.0", "encoder.iem.0", "encoder.stages.1", "skips.0"):
        module = net.get_submodule(name)
        module.register_forward_hook(lambda _, given, out, name=name: seen.update({name: (given[0], out)}))
    net(torch.randn(1, 1, 8, 12))
    feature = seen["encoder.stages.0"][1]
    assert torch.equal(seen["skips.0"][0], feature)
    assert torch.equal(seen["encoder.iem.0"][0], feature)
    assert torch.equal(seen["encoder.stages.1"][0], F.max_pool2d(seen["encoder.iem.0"][1], 2))


# padding


def first_input(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    seen = []
    handle = net.encoder.stages[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(x)
    handle.remove()
    return seen[0]


def test_odd_sides_are_padded_with_zeros_and_cropped():
    net, x = SFMANet(1, 2, [16, 16, 16, 16, 32]).eval(), torch.randn(1, 1, 17, 300)
    out = net(x)
    assert out.shape == (1, 2, 17, 300)
    padded = F.pad(x, (0, 4, 0, 15))
    assert torch.equal(first_input(net, x), padded)
    assert torch.equal(out, net(padded)[..., :17, :300])


def test_divisible_sides_are_not_padded():
    net, x = SFMANet(1, 2, [16, 16, 16, 16, 32]).eval(), torch.randn(1, 1, 16, 48)
    assert torch.equal(first_input(net, x), x)


# float16: equation 20 is quadratic in the features


def loud_network(width: int, scale: float) -> tuple[SFMANet, torch.Tensor]:
    """A network with large encoder features on its skip and settled running statistics, and its image."""
    net, x = SFMANet(1, 2, [width, 32]), torch.randn(2, 1, 32, 48)
    nn.init.constant_(net.encoder.stages[0].norm2.weight, scale)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # cumulative: the first batch's statistics are the running statistics
    with torch.no_grad():
        net.train()(x)
    return net, x


@pytest.mark.usefixtures("without_onednn")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("width, scale", [(16, 500.0), (16, 1000.0), (64, 500.0), (64, 1000.0)])
def test_float16_survives_the_product_of_equation_20(width, scale, training):
    net, x = loud_network(width, scale)
    net.train(training)
    features, products = [], []
    net.skips[0].register_forward_pre_hook(lambda _, given: features.append(given[0]))
    net.skips[0].register_forward_hook(lambda _, given, out: products.append(out))
    with torch.no_grad():
        net(x)
        with torch.autocast("cpu", dtype=torch.float16):
            logits = net(x)
    assert products[0].abs().max() > 2 * 65504, "the float32 product would fit into float16: nothing is tested"
    assert features[1].abs().max() < 6550, "the feature itself is close to the end of float16"
    assert products[1].dtype == torch.float16
    assert products[1].isfinite().all()
    assert logits.isfinite().all()
