"""Every unit, and both networks, against the papers' equations in NumPy; the units' gradients against differences."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from nnunet_sfma.networks import danie, sfmanet
from nnunet_sfma.networks.danie.convolutions import ConvBlock, ConvNormGelu
from nnunet_sfma.networks.danie.joint_preservation import FUSIONS, ConcatenationWithResidual, EnhancedSum
from nnunet_sfma.networks.danie.model import PredictionHeads
from nnunet_sfma.networks.sfmanet.dual_axis import StripConvolution
from nnunet_sfma.networks.sfmanet.gated_skip import GatedSkip
from nnunet_sfma.networks.sfmanet.unet import DoubleConvolution
from tests.networks.probing import randomised
from tests.reference import danie_equations, sfmanet_equations

SIZES = [(5, 7), (1, 9), (8, 3)]


@dataclass(frozen=True)
class Case:
    """A module of the package and what its equations make of its weights and inputs.

    Attributes:
        module: makes it.
        equations: a function of the weights and the inputs.
        channels: of each input.
        scales: of each input's size to the first one's; None for 1.
        amplitude: standard deviation of the inputs.
        call: gives the inputs to the module.
    """

    module: Callable[[], nn.Module]
    equations: Callable
    channels: Sequence[int]
    scales: Sequence[float] | None = None
    amplitude: float = 1.0
    call: Callable[..., Any] = field(default=lambda module, *inputs: module(*inputs))

    def inputs(self, batch: int, size: tuple[int, int]) -> list[torch.Tensor]:
        scales = self.scales or [1] * len(self.channels)
        shapes = [
            (batch, c, *(math.ceil(scale * side) for side in size))
            for c, scale in zip(self.channels, scales, strict=True)
        ]
        return [self.amplitude * torch.randn(shape, dtype=torch.float64) for shape in shapes]


def check(case: Case, batch: int, size: tuple[int, int]) -> None:
    module = randomised(case.module()).double().eval()
    inputs = case.inputs(batch, size)
    found = case.call(module, *inputs)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    expected = case.equations(weights, *(x.numpy() for x in inputs))
    if isinstance(found, torch.Tensor):
        found, expected = [found], [expected]
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert np.abs(a.detach().numpy() - b).max() <= 1e-10 * np.abs(b).max()


def sgu(channels: int = 8, **switches) -> Case:
    return Case(
        partial(sfmanet.SpatialGatingUnit, channels, **switches),
        partial(sfmanet_equations.spatial_gating, **switches),
        [channels],
    )


def fgu(channels: int = 16, **switches) -> Case:
    of_equations = {key: value for key, value in switches.items() if key not in ("squeeze", "seed")}
    equations = partial(sfmanet_equations.frequency_gating, **of_equations)
    return Case(partial(sfmanet.FrequencyGatingUnit, channels, **switches), equations, [channels])


def axial(axis: str, scaled: bool = True, factor: bool = False) -> Case:
    kind = "scaled" if scaled else "unscaled"
    equations = partial(sfmanet_equations.axial_attention, axis=axis, kind=kind, factor=factor)
    return Case(partial(sfmanet.AxialAttention, 16, axis, scaled, factor), equations, [16])


def iem(channels: int = 8, **switches) -> Case:
    equations = {key: value for key, value in switches.items() if key != "fuse_kernel"}
    return Case(
        partial(sfmanet.InformationEnhancementModule, channels, **switches),
        partial(sfmanet_equations.information_enhancement, **equations),
        [channels],
    )


def skip(sgu: dict | None = None, fgu: dict | None = None, dmau: bool = True, init_pointwise: bool = False) -> Case:
    switches = {"sgu": sgu or {}, "fgu": fgu or {}, "dmau": dmau, "init_pointwise": init_pointwise}
    return Case(partial(GatedSkip, 16, **switches), partial(sfmanet_equations.gated_skip, **switches), [16])


def dmau(lengths: Sequence[int]) -> Case:
    return Case(
        partial(sfmanet.DualAxisMultiScaleAttentionUnit, 8, lengths),
        partial(sfmanet_equations.dual_axis, lengths=len(lengths)),
        [8] * 4,
    )


SFMANET_UNITS = {
    "SGU": sgu(),
    "SGU, threshold 0.2": sgu(threshold=0.2),
    "SGU, threshold 0.8": sgu(threshold=0.8),
    "SGU, sum over a group": sgu(weight="group_sum"),
    "SGU, sum over all channels": sgu(weight="channel_sum"),
    "SGU, gamma alone": sgu(beta=False),
    "SGU, as its ancestor": sgu(64, weight="channel_sum", beta=False),
    "SGU, disjoint gate": sgu(gate="disjoint"),
    "SGU, disjoint gate, threshold 0.2": sgu(gate="disjoint", threshold=0.2, weight="group_sum"),
    "SGU, one group": sgu(6),
    "SGU, sixteen groups": sgu(64),
    "FGU": fgu(),
    "FGU, alpha 0.25": fgu(32, alpha=0.25),
    "FGU, alpha 0.75": fgu(32, alpha=0.75),
    "FGU, squeeze 4": fgu(32, squeeze=4),
    "FGU, two groups": fgu(groups=2),
    "FGU, as printed": fgu(rescale=False, seed=1),
    "strip": Case(partial(StripConvolution, 6, 7), sfmanet_equations.strips, [6]),
    "DMAU": dmau((7, 11, 21)),
    "DMAU, two strips": dmau((3, 5)),
    "CAA": axial("column"),
    "RAA": axial("row"),
    "CAA, unscaled": axial("column", scaled=False),
    "RAA, as its ancestor": axial("row", scaled=False, factor=True),
    "CAA, with a factor": axial("column", factor=True),
    "IEM": iem(),
    "IEM, unscaled": iem(attention="unscaled"),
    "IEM, identity": iem(attention="identity"),
    "IEM, with factors": iem(attention_factor=True),
    "IEM, cost-matched": iem(fuse_kernel=3, pointwise=False),
    "IEM, grouped": iem(fuse_groups=4),
    "skip": skip(),
    "skip, separable start": skip(init_pointwise=True),
    "skip, no DMAU": skip(dmau=False),
    "double convolution": Case(partial(DoubleConvolution, 3, 8), sfmanet_equations.double_convolution, [3]),
}


WIDTHS = (8, 12, 16)


def hap_block(channels: int = 16, **switches) -> Case:
    return Case(
        partial(danie.HierarchicalAttentionBlock, channels, **switches),
        partial(danie_equations.hierarchical_attention, **switches),
        [channels],
    )


def es(scale: float | None = None) -> Case:
    equations = partial(danie_equations.enhanced_self_attention, scale=scale)
    return Case(partial(danie.EnhancingSelfAttention, scale), equations, [12], amplitude=0.4)


def fusion(module: Callable[[], nn.Module], name: str, **arguments) -> Case:
    return Case(module, partial(_of_two, fusion=name, **arguments), [16, 16], amplitude=0.4)


def _of_two(weights: dict, s: np.ndarray, h: np.ndarray, **arguments) -> np.ndarray:
    return danie_equations.fused(weights, [s, h], **arguments)


def jp(fusion: str, streams: int = 2, fuse_conv: bool = True, es_scale: float | None = None) -> Case:
    """Of pyramids of three stages each."""
    as_pyramids = partial(_chunks, length=len(WIDTHS))
    arguments = {"fusion": fusion, "fuse_conv": fuse_conv, "es_scale": es_scale}
    return Case(
        partial(danie.JointPreservation, WIDTHS, **arguments),
        lambda weights, *maps: danie_equations.joint_preservation(weights, as_pyramids(maps), **arguments),
        WIDTHS * streams,
        [1, 1 / 2, 1 / 4] * streams,
        amplitude=0.4,
        call=lambda module, *maps: module(*as_pyramids(maps)),
    )


def _chunks(maps: Sequence, length: int) -> list[Sequence]:
    return [maps[i : i + length] for i in range(0, len(maps), length)]


def hap(blocks: int) -> Case:
    return Case(
        partial(danie.HierarchicalAttentionalPerception, 3, (8, 12), blocks, {}),
        partial(danie_equations.hierarchical_stream, stages=2, blocks_per_stage=blocks, attention={}),
        [3],
        [2],
    )


SCALED_SUM = {"es": True, "eh": True, "fuse_conv": False, "es_scale": 0.3}
DANIE_UNITS = {
    "ConvNormGelu": Case(partial(ConvNormGelu, 3, 8, 2), partial(danie_equations.conv_norm_gelu, stride=2), [3]),
    "ConvBlock": Case(partial(ConvBlock, 3, 8), danie_equations.conv_block, [3]),
    "HAP block": hap_block(),
    "HAP block, wide": hap_block(160),
    "HAP block, no channel attention": hap_block(channel_attention=False),
    "HAP block, no spatial attention": hap_block(spatial_attention=False),
    "HAP block, spatial first": hap_block(attention_order="spatial_channel"),
    "HAP block, fixed calibration": hap_block(dynamic_calibration=False),
    "HAP block, no calibration map": hap_block(calibration_map=False),
    "HAP block, no calibration": hap_block(calibration_map=False, dynamic_calibration=False),
    "HAP": hap(2),
    "ES": es(),
    "ES, scaled": es(0.3),
    "EH": Case(
        partial(danie.EnhancingHierarchicalAttention, 16), danie_equations.enhanced_hierarchical_attention, [16]
    ),
    "ES + EH": fusion(partial(EnhancedSum, 16, **SCALED_SUM), "joint_preservation", fuse_conv=False, es_scale=0.3),
    "Cat + residual": fusion(partial(ConcatenationWithResidual, 16), "concat_residual"),
    **{f"JP, {name}": jp(name) for name in FUSIONS},
    "JP, as printed": jp("joint_preservation", fuse_conv=False),
    "JP, scaled": jp("joint_preservation", es_scale=0.5),
    "JP, one stream": jp("add", streams=1),
    "heads": Case(
        partial(PredictionHeads, WIDTHS, 2),
        lambda weights, *maps: danie_equations.prediction(weights, maps, (13, 19)),
        WIDTHS,
        [1, 1 / 2, 1 / 4],
        call=lambda module, *maps: module(maps, (13, 19)),
    ),
}
UNITS = SFMANET_UNITS | DANIE_UNITS


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", UNITS)
def test_units(name: str, size: tuple[int, int]):
    check(UNITS[name], 2, size)


@pytest.mark.parametrize("name", UNITS)
def test_gradients_of_units(name: str):
    """Once and twice, along three random directions of all inputs and parameters together."""
    case = UNITS[name]
    module = Called(case, randomised(case.module()).double().eval())
    inputs, parameters = case.inputs(1, (3, 4)), dict(module.named_parameters())
    tensors = [tensor.detach() for tensor in (*inputs, *parameters.values())]
    directions = [torch.randn(3, *tensor.shape, dtype=torch.float64) for tensor in tensors]

    def outputs(steps: torch.Tensor) -> torch.Tensor:
        moved = [tensor + torch.tensordot(steps, d, 1) for tensor, d in zip(tensors, directions, strict=True)]
        replaced = dict(zip(parameters, moved[len(inputs) :], strict=True))
        out = functional_call(module, replaced, tuple(moved[: len(inputs)]))
        maps = [out] if isinstance(out, torch.Tensor) else out
        # some numbers of each map, since all would cancel
        return torch.stack([y.flatten()[:: 1 + y.numel() // 5].sum() for y in maps])

    steps = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, steps)
    assert torch.autograd.gradgradcheck(outputs, steps)


class Called(nn.Module):
    """A case's module as one that is called with its inputs."""

    def __init__(self, case: Case, module: nn.Module):
        super().__init__()
        self.case, self.module = case, module

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.case.call(self.module, *inputs)


def whole_sfmanet(sgu: dict | None = None, fgu: dict | None = None, iem: dict | None = None, **switches) -> Case:
    parts = {"sgu": sgu or {}, "fgu": fgu or {}, "iem": iem or {}}
    of_parts = {f"{unit}_{key}": value for unit, values in parts.items() for key, value in values.items()}
    return Case(
        partial(sfmanet.SFMANet, 2, 3, (16, 32), **of_parts, **switches),
        partial(sfmanet_equations.sfmanet, stages=2, **parts, **switches),
        [2],
    )


def hierarchical_danie(**attention) -> Case:
    size = (64, 64)
    return Case(
        partial(
            danie.DANIE, 2, 3, (37, 41), features_per_stage=[32] * 4, blocks_per_stage=1, self_attention=False,
            fusion="add", **attention,
        ),
        partial(danie_equations.hierarchical_danie, size=size, blocks=1, attention=attention),
        [2],
        [3],
    )  # fmt: skip


NETWORKS = {
    "SFMANet": whole_sfmanet(),
    "SFMANet, no DMAU": whole_sfmanet(dmau=False),
    "SFMANet, separable start": whole_sfmanet(init_pointwise=True),
    "SFMANet, cost-matched": whole_sfmanet(iem={"fuse_kernel": 3, "pointwise": False}, iem_stages=0),
    "SFMANet, other thresholds": whole_sfmanet(sgu={"threshold": 0.8}, fgu={"rescale": False, "groups": 2}),
    "SFMANet, other weights": whole_sfmanet(sgu={"weight": "channel_sum", "beta": False, "gate": "disjoint"}),
    "SFMANet, other attention": whole_sfmanet(iem={"attention": "unscaled", "attention_factor": True}),
    "SFMANet, no attention": whole_sfmanet(iem={"attention": "identity"}),
    "U-Net": whole_sfmanet(sfgu=False, dmau=False, iem_stages=0),
    "DANIE, hierarchical": hierarchical_danie(),
    "DANIE, no calibration map": hierarchical_danie(calibration_map=False),
    "DANIE, spatial first": hierarchical_danie(attention_order="spatial_channel", dynamic_calibration=False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str):
    check(NETWORKS[name], 1, (9, 13))
