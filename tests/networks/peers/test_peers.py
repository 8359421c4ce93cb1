"""MONAI's networks behind our interface pass the contract, as far as the library's code allows."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("monai")

from nnunet_sfma.networks.peers import UNETR, AttentionUNet, SwinUNETR, UNetPlusPlus
from tests.networks.contract import NetworkContract

NARROW = {
    AttentionUNet: {"features_per_stage": [8, 16]},
    UNetPlusPlus: {"features_per_stage": [4, 4, 8, 8, 8]},
    SwinUNETR: {"feature_size": 12, "depths": [2, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4},
    UNETR: {"image_size": [32, 48], "feature_size": 4, "hidden_size": 12, "mlp_dim": 16, "num_heads": 2},
}

REFUSED = {
    "one width": (AttentionUNet, {"features_per_stage": [8]}, "two or more whole numbers"),
    "width of nothing": (AttentionUNet, {"features_per_stage": [8, 0]}, "two or more whole numbers"),
    "width that cannot be halved": (AttentionUNet, {"features_per_stage": [1, 2]}, "2 at least"),
    "no list": (AttentionUNet, {"features_per_stage": 8}, "two or more whole numbers"),
    "four widths": (UNetPlusPlus, {"features_per_stage": [4, 4, 8, 8]}, "5 whole numbers"),
    "three depths": (SwinUNETR, {"depths": [1, 1, 1]}, "depths is a list of 4"),
    "heads that do not divide": (SwinUNETR, {"num_heads": [1, 5, 1, 1]}, r"divide the widths \[12, 24, 48, 96\]"),
    "feature size": (SwinUNETR, {"feature_size": 16}, "divisible by 12"),
    "window of nothing": (SwinUNETR, {"window_size": 0}, "window_size"),
    "image size": (UNETR, {"image_size": [32]}, "image_size is a list of 2"),
    "heads of tokens": (UNETR, {"num_heads": 5}, "divisible by num_heads"),
    "tokens of nothing": (UNETR, {"mlp_dim": 0}, "mlp_dim"),
}


class PeerContract(NetworkContract):
    """What does not apply to a library's network.

    A new process would spend its time on importing MONAI. What the two tests with processes look for shows here as
    well: every parameter has a gradient, buffers and predictions do not depend on the random state. Two of the networks
    do not compile to one graph (MONAI asks ``torch.jit.isinstance``, and computes with numpy on the image's size), and
    nnU-Net does without; that padding and cropping do is tested once.
    """

    peer: type[nn.Module]
    test_seg_layers_are_what_depends_on_the_classes = None  # the library names the head
    test_weights_reloaded_in_a_new_process_give_the_same_output = None
    test_two_processes_train_one_network = None
    test_compiles_to_one_graph = None
    test_exports = None

    def build(self, input_channels: int, num_classes: int) -> nn.Module:
        return self.peer(input_channels, num_classes, **NARROW[self.peer])


class TestAttentionUNet(PeerContract):
    peer = AttentionUNet
    test_compiles_to_one_graph = NetworkContract.test_compiles_to_one_graph

    @property
    def cancelled(self) -> set[str]:
        """Biases in front of a norm: all but the head's."""
        names = (name for name, _ in self.build(1, 1).named_parameters())
        return {name for name in names if name.endswith(".conv.bias") and ".model.2." not in name}


class TestUNetPlusPlus(PeerContract):
    peer = UNetPlusPlus

    @property
    def cancelled(self) -> set[str]:
        """Biases in front of a norm."""
        return {name for name, _ in self.build(1, 1).named_parameters() if name.endswith(".conv.bias")}


class TestSwinUNETR(PeerContract):
    peer = SwinUNETR


class TestUNETR(PeerContract):
    peer = UNETR


@pytest.mark.parametrize(
    "peer, options, millions",
    [
        (AttentionUNet, {}, 31.74),
        (UNetPlusPlus, {}, 36.45),
        (SwinUNETR, {}, 25.14),
        (UNETR, {"image_size": [256, 256]}, 87.32),
    ],
)
def test_parameters_are_as_many_as_described(peer, options, millions):
    with torch.device("meta"):
        network = peer(1, 1, **options)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert f"{millions} M" in " ".join(peer.__doc__.split())


def test_published_parameters_are_missed_as_described():
    published = {AttentionUNet: 34.88, UNetPlusPlus: 36.62}
    with torch.device("meta"):
        counted = {peer: sum(p.numel() for p in peer(1, 1).parameters()) / 1e6 for peer in published}
    assert counted[AttentionUNet] / 34.88 == pytest.approx(0.910, abs=1e-3)
    assert counted[UNetPlusPlus] / 36.62 == pytest.approx(0.995, abs=1e-3)
    assert all(f"has {millions} M" in " ".join(peer.__doc__.split()) for peer, millions in published.items())


@pytest.mark.parametrize(
    "peer, padded", [(AttentionUNet, (18, 46)), (UNetPlusPlus, (32, 48)), (SwinUNETR, (64, 64)), (UNETR, (32, 48))]
)
def test_image_is_padded_with_zeros_and_the_logits_cropped(peer, padded):
    network, x = peer(1, 2, **NARROW[peer]).eval(), torch.randn(1, 1, 17, 45)
    assert network.padded_size((17, 45)) == padded
    seen = []
    network.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    logits = network(x)
    x = F.pad(x, (0, padded[1] - 45, 0, padded[0] - 17))
    assert torch.equal(seen[0], x)
    assert torch.equal(logits, network(x)[..., :17, :45])


def test_image_size_is_padded_and_nothing_larger_is_taken():
    network = UNETR(1, 2, **{**NARROW[UNETR], "image_size": [20, 33]})
    assert network(torch.randn(1, 1, 32, 48)).shape == (1, 2, 32, 48)
    with pytest.raises(ValueError, match=r"\(batch, 1, 32 or less, 48 or less\), got \(1, 1, 33, 48\)"):
        network(torch.randn(1, 1, 33, 48))


@pytest.mark.parametrize("shape", [(1, 17, 45), (1, 1, 4, 17, 45)])
def test_what_is_no_batch_of_2d_images_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(batch, 1, height, width\)"):
        AttentionUNet(1, 2, [8, 16])(torch.randn(shape))


@pytest.mark.parametrize("peer, options, rule", REFUSED.values(), ids=REFUSED.keys())
def test_refused_arguments(peer, options, rule):
    with pytest.raises(ValueError, match=rule):
        peer(1, 1, **{**NARROW[peer], **options})


def test_tables_of_positions_do_not_decay():
    tables = {peer: peer(1, 1, **options).no_weight_decay() for peer, options in NARROW.items()}
    assert [len(names) for names in tables.values()] == [0, 0, 5, 1]
