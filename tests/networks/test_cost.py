"""Multiply-adds by two counters that know nothing of each other: PyTorch's of operators, thop's of modules."""

import pytest
import torch
from torch import nn

from nnunet_sfma.networks import DANIE, SFMANet
from nnunet_sfma.networks.accelerate import accelerate
from nnunet_sfma.networks.cost import measure_cost

thop = pytest.importorskip("thop")


def count_transposed_convolution(layer: nn.ConvTranspose2d, inputs: tuple, output: torch.Tensor) -> None:
    """Each input number meets a kernel once for each output channel; thop counts a kernel for each output number."""
    outputs, *kernel = layer.weight.shape[1:]
    layer.total_ops += inputs[0].numel() * outputs * kernel[0] * kernel[1]


def count_convolution(layer: nn.Conv2d, inputs: tuple, output: torch.Tensor) -> None:
    """thop passes over classes that derive from PyTorch's, as the first ones of timm's MaxViT do."""
    layer.total_ops += output.numel() * layer.weight[0].numel()


def count_nothing(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
    pass


OURS = {
    nn.ConvTranspose2d: count_transposed_convolution,
    **dict.fromkeys((nn.BatchNorm2d, nn.LayerNorm, nn.Softmax, nn.AvgPool2d, nn.AdaptiveAvgPool2d), count_nothing),
}


def counted_by_thop(network: nn.Module, channels: int, size: tuple[int, int]) -> float:
    convolutions = {type(module): count_convolution for module in network.modules() if isinstance(module, nn.Conv2d)}
    custom_ops = {**OURS, **convolutions}
    with torch.no_grad():
        return thop.profile(network.eval(), (torch.zeros(1, channels, *size),), custom_ops=custom_ops, verbose=False)[0]


@pytest.mark.parametrize(
    "switches",
    [{}, {"dmau": False}, {"init_pointwise": True}, {"iem_fuse_kernel": 3, "iem_pointwise": False}, {"iem_stages": 0}],
    ids=str,
)
def test_two_counters_agree_on_sfmanet(switches: dict):
    def make() -> SFMANet:
        return SFMANet(1, 1, (16, 32, 64), **switches)

    assert counted_by_thop(make(), 1, (64, 96)) == pytest.approx(measure_cost(make(), (1, 64, 96)).conv_macs, rel=1e-2)


def test_two_counters_agree_on_danie():
    def make() -> DANIE:
        return DANIE(3, 2, (64, 96), features_per_stage=[32] * 4, depths=[1] * 4)

    assert counted_by_thop(make(), 3, (64, 96)) == pytest.approx(measure_cost(make(), (3, 64, 96)).conv_macs, rel=1e-2)


def test_whole_sfmanet_is_what_thop_counts():
    """67.62 G; as it comes, thop prints 74.19 for it, of which 6.44 are the transposed convolutions' excess."""
    counted = counted_by_thop(SFMANet(1, 1), 1, (256, 256)) / 1e9
    assert counted == pytest.approx(67.62, abs=0.01)


def test_accelerated_network_is_counted_as_the_plain_one():
    plain, fast = (measure_cost(make(SFMANet(1, 2, (16, 32))), (1, 64, 64)) for make in (lambda x: x, accelerate))
    assert fast == plain and plain.accelerated_conv_macs < plain.conv_macs
