"""The networks that the benchmarks compare, by name, with random weights and two outputs."""

from collections.abc import Callable

from torch import nn

CLASSES = 2
UNET = "unet"
NO_MODULES = {"sfgu": False, "dmau": False, "iem_stages": 0}
DANIE_S = {"backbone": "maxvit_tiny_tf_224", "features_per_stage": (64, 128, 256, 512)}
DANIE_NARROW = {"features_per_stage": (32, 64, 96, 128), "depths": (1, 1, 1, 1)}


def build(name: str, side: int, narrow: bool = False) -> nn.Module:
    """A network for images of one channel (``axial-attention``: for the 64 channels of the finest stage).

    Args:
        name: a key of ``NETWORKS`` or ``FOR_ONE_BENCHMARK``.
        side: of the images, in pixels; some networks belong to one size, nnU-Net's have as many stages as it allows.
        narrow: take about a quarter of the width, to try a benchmark out.
    """
    return {**NETWORKS, **FOR_ONE_BENCHMARK}[name](side, narrow)


def channels(name: str) -> int:
    """Channels of the images that :func:`build` builds the network for."""
    return 64 if name == "axial-attention" else 1


def _widths(narrow: bool) -> tuple[int, ...]:
    return (16, 32, 64, 128, 256) if narrow else (64, 128, 256, 512, 1024)


def _axial_attention(side: int, narrow: bool) -> nn.Module:
    from nnunet_sfma.networks.sfmanet import AxialAttention

    return _accelerated(nn.Sequential(AxialAttention(64, "column"), AxialAttention(64, "row")))


def _plain_sfmanet(side: int, narrow: bool, **switches) -> nn.Module:
    from nnunet_sfma.networks import SFMANet

    return SFMANet(1, CLASSES, _widths(narrow), **switches)


def _sfmanet(side: int, narrow: bool) -> nn.Module:
    return _accelerated(_plain_sfmanet(side, narrow))


def _checkpointed_sfmanet(side: int, narrow: bool) -> nn.Module:
    from nnunet_sfma.networks.accelerate import checkpoint_activations

    network = _sfmanet(side, narrow)
    checkpoint_activations(network)
    return network


def _classic_unet(side: int, narrow: bool) -> nn.Module:
    return _plain_sfmanet(side, narrow, **NO_MODULES)


def _accelerated(network: nn.Module) -> nn.Module:
    from nnunet_sfma.networks.accelerate import accelerate

    return accelerate(network)


def _plain_danie(side: int, narrow: bool, **sizes) -> nn.Module:
    from nnunet_sfma.networks import DANIE

    return DANIE(1, CLASSES, (side, side), **(DANIE_NARROW if narrow else sizes))


def _danie(side: int, narrow: bool) -> nn.Module:
    return _accelerated(_plain_danie(side, narrow))


def _danie_s(side: int, narrow: bool) -> nn.Module:
    return _accelerated(_plain_danie(side, narrow, **DANIE_S))


def _nnunet_stages(side: int, narrow: bool) -> dict:
    """What nnU-Net's planner gives all its 2D networks for a square patch of pixels as wide as high."""
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    _, strides, kernels, _, _ = get_pool_and_conv_props((1.0, 1.0), (side, side), 4, 999999)
    first, most = (8, 128) if narrow else (32, 512)
    return {
        "input_channels": 1,
        "num_classes": CLASSES,
        "n_stages": len(strides),
        "features_per_stage": [min(most, first * 2**stage) for stage in range(len(strides))],
        "conv_op": nn.Conv2d,
        "kernel_sizes": kernels,
        "strides": strides,
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }


def _plain_conv_unet(side: int, narrow: bool) -> nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(**_nnunet_stages(side, narrow), n_conv_per_stage=2, n_conv_per_stage_decoder=2)


def _residual_encoder_unet_m(side: int, narrow: bool) -> nn.Module:
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    stages = _nnunet_stages(side, narrow)
    blocks = [1, 3, 4, 6, 6, 6, 6, 6, 6, 6][: stages["n_stages"]]
    return ResidualEncoderUNet(**stages, n_blocks_per_stage=blocks, n_conv_per_stage_decoder=1)


def _attention_unet(side: int, narrow: bool) -> nn.Module:
    from nnunet_sfma.networks.peers import AttentionUNet

    return AttentionUNet(1, CLASSES, _widths(narrow))


def _unet_plus_plus(side: int, narrow: bool) -> nn.Module:
    from nnunet_sfma.networks.peers import UNetPlusPlus

    return UNetPlusPlus(1, CLASSES, _widths(narrow))


NETWORKS: dict[str, Callable[[int, bool], nn.Module]] = {
    "sfmanet": _sfmanet,
    "danie-s": _danie_s,
    "danie-l": _danie,
    "plain-sfmanet": _plain_sfmanet,
    "plain-danie-l": _plain_danie,
    UNET: _classic_unet,
    "nnunet-plain": _plain_conv_unet,
    "nnunet-resenc-m": _residual_encoder_unet_m,
    "attention-unet": _attention_unet,
    "unetpp": _unet_plus_plus,
}
"""``unet`` is the classic U-Net of 31.04 M parameters, ``plain-*`` are the networks without ``accelerate``, the
last four are networks of nnU-Net (in the sizes of its planner) and of MONAI (``nnunet_sfma.networks.peers``)."""

FOR_ONE_BENCHMARK: dict[str, Callable[[int, bool], nn.Module]] = {
    "axial-attention": _axial_attention,
    "sfmanet-checkpointed": _checkpointed_sfmanet,
}
"""The two attentions of SFMANet's finest IEM alone, and SFMANet with activation checkpointing."""
