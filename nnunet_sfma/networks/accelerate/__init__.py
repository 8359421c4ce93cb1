"""Faster equivalents of the networks' units, with the same parameters under the same names.

The networks' own files are the papers' equations. ``accelerate(network)`` makes each of their units the fast one that
stands for it. What a fast unit gives up, and how it gains, its docstring says; ``benchmarks/speed.py`` measures it.
"""

import torch
from torch import nn

from nnunet_sfma.networks.accelerate.axial_attention import FastAxialAttention
from nnunet_sfma.networks.accelerate.convolution import Convolution
from nnunet_sfma.networks.accelerate.double_convolution import FastDoubleConvolution
from nnunet_sfma.networks.accelerate.dual_axis import FastDualAxisMultiScaleAttentionUnit, FastStripConvolution
from nnunet_sfma.networks.accelerate.frequency_gating import FastFrequencyGatingUnit
from nnunet_sfma.networks.accelerate.gated_skip import FastGatedSkip
from nnunet_sfma.networks.accelerate.information_enhancement import FastInformationEnhancementModule
from nnunet_sfma.networks.accelerate.linear import Linear
from nnunet_sfma.networks.accelerate.recomputation import checkpoint_activations, has_checkpointing
from nnunet_sfma.networks.accelerate.spatial_gating import FastSpatialGatingUnit
from nnunet_sfma.networks.sfmanet import frequency_gating, spatial_gating
from nnunet_sfma.networks.sfmanet.axial_attention import AxialAttention
from nnunet_sfma.networks.sfmanet.dual_axis import DualAxisMultiScaleAttentionUnit, StripConvolution
from nnunet_sfma.networks.sfmanet.frequency_gating import FrequencyGatingUnit
from nnunet_sfma.networks.sfmanet.gated_skip import GatedSkip
from nnunet_sfma.networks.sfmanet.information_enhancement import InformationEnhancementModule
from nnunet_sfma.networks.sfmanet.spatial_gating import SpatialGatingUnit
from nnunet_sfma.networks.sfmanet.unet import DoubleConvolution

__all__ = ["FAST", "accelerate", "checkpoint_activations", "has_checkpointing", "restore_plain"]

UNITS = {
    SpatialGatingUnit: FastSpatialGatingUnit,
    FrequencyGatingUnit: FastFrequencyGatingUnit,
    DualAxisMultiScaleAttentionUnit: FastDualAxisMultiScaleAttentionUnit,
    AxialAttention: FastAxialAttention,
    InformationEnhancementModule: FastInformationEnhancementModule,
    GatedSkip: FastGatedSkip,
    DoubleConvolution: FastDoubleConvolution,
}
ON_CPU = {StripConvolution: FastStripConvolution}
FAST: dict[str, dict[type[nn.Module], type[nn.Module]]] = {
    "cpu": {**UNITS, **ON_CPU, nn.Conv2d: Convolution, nn.Linear: Linear},
    "cuda": UNITS,
}
"""Plain class -> fast class, per device. ``nn.Conv2d`` is replaced within these units only, where it keeps the size."""

PLAIN = {fast: plain for plain, fast in FAST["cpu"].items()}

PARTS = {
    *UNITS,
    *UNITS.values(),
    *ON_CPU,
    *ON_CPU.values(),
    spatial_gating.SpatialGroupNorm,
    spatial_gating.Gate,
    frequency_gating.ChannelPermutation,
    frequency_gating.ChannelWeights,
    Convolution,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.SyncBatchNorm,
    nn.ChannelShuffle,
    nn.Identity,
    nn.Sigmoid,
    nn.Sequential,
    nn.ModuleList,
}
"""What a unit is made of as it is built."""


def accelerate(network: nn.Module, device: torch.device | str | None = None) -> nn.Module:
    """Let fast units stand in for a network's plain ones; what it computes changes by rounding errors only.

    The modules stay the same objects with the same parameters, buffers and hooks; each takes on the class that stands
    for its own, as PyTorch's lazy modules do. A unit of which a part was wrapped, parametrised or hooked stays plain,
    because a fast unit reads the weights of its parts and does not call them. For the same reason, wrap and hook parts
    before this call, or do without it.

    Args:
        network: any; what has no fast equivalent stays as it is.
        device: where it will run. If that is not known yet, every fast unit is used: each looks at its input and is
            right on all devices.

    Returns:
        The same network; :func:`restore_plain` is the way back.

    Example:
        >>> from nnunet_sfma.networks import SFMANet
        >>> network = accelerate(SFMANet(input_channels=1, num_classes=2, features_per_stage=(16, 32)))
    """
    table = FAST["cpu"] if device is None else FAST.get(torch.device(device).type, FAST["cuda"])
    # parents first: their parts are still as they were built
    for module in list(network.modules()):
        fast = table.get(type(module))
        if fast is None or type(module) is nn.Conv2d or not _is_as_built(module):
            continue
        module.__class__ = fast
        for part in module.modules():
            if type(part) is nn.Conv2d:
                part.__class__ = table.get(nn.Conv2d, nn.Conv2d)
    return network


def restore_plain(network: nn.Module) -> nn.Module:
    """Let an accelerated network's plain units compute again, before their parts are hooked, wrapped or pruned."""
    for module in network.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
    return network


def _is_as_built(unit: nn.Module) -> bool:
    parts = list(unit.modules())[1:]
    return all(type(part) in PARTS and not _is_hooked(part) for part in parts)


def _is_hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
