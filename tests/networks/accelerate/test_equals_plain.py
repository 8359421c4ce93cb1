"""Accelerated units and networks against the plain ones: outputs, gradients and running statistics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nnunet_sfma.networks import danie, sfmanet
from nnunet_sfma.networks.accelerate import FAST, accelerate
from nnunet_sfma.networks.danie.joint_preservation import FUSIONS
from nnunet_sfma.networks.sfmanet.dual_axis import StripConvolution
from nnunet_sfma.networks.sfmanet.gated_skip import GatedSkip
from nnunet_sfma.networks.sfmanet.unet import DoubleConvolution
from tests.networks.danie.test_model import cancelled_by_batch_norm
from tests.networks.probing import counterpart, randomised

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
# any two of precision, size and mode meet once
RUNS = pytest.mark.parametrize(
    "dtype, batch, size, training",
    [
        pytest.param(torch.float64, 1, (37, 53), True, id="float64-37x53-train"),
        pytest.param(torch.float64, 2, (8, 8), False, id="float64-8x8-eval"),
        pytest.param(torch.float32, 1, (37, 53), False, id="float32-37x53-eval"),
        pytest.param(torch.float32, 2, (8, 8), True, id="float32-8x8-train"),
    ],
)

Size = tuple[int, int]


# comparing


@dataclass(frozen=True)
class Case:
    """What is compared, and on what.

    Attributes:
        plain: the class whose accelerated instance is compared with another one that is not.
        arguments: of both.
        shapes: of the inputs, for a batch and an image size.
        call: gives the inputs to a module.
        amplitude: standard deviation of the inputs, for an image size.
        cancelled: parameters of whose gradient batch normalisation leaves nothing but rounding errors in training.
    """

    plain: type[nn.Module]
    arguments: dict[str, Any]
    shapes: Callable[[int, Size], list[tuple[int, ...]]]
    call: Callable[[nn.Module, list[torch.Tensor]], Any] = lambda module, inputs: module(*inputs)
    amplitude: Callable[[Size], float] = lambda size: 1.0
    cancelled: frozenset[str] = frozenset()


class DistanceFromJumps(TorchFunctionMode):
    """How close what is computed under it comes to where the result jumps and, if asked for, where the gradient does.

    There a rounding error decides which side is taken: at the threshold of a gate; and for the gradient at 0 of a ReLU
    and where two values are the largest.
    """

    def __init__(self, of_the_gradient: bool):
        super().__init__()
        self.of_the_gradient = of_the_gradient
        self.closest = math.inf

    def __torch_function__(self, function: Callable, types, args: tuple = (), kwargs: dict | None = None):
        kwargs = kwargs or {}
        if function in (torch.Tensor.gt, torch.Tensor.__gt__):
            self._see(args[0] - args[1])
        elif function is F.relu and self.of_the_gradient:
            self._see(args[0])
        elif function is torch.amax and self.of_the_gradient:
            pooled = args[0].flatten(2) if kwargs["dim"] == (2, 3) else args[0].movedim(kwargs["dim"], -1)
            self._see(pooled.topk(2).values.diff())
        return function(*args, **kwargs)

    def _see(self, distances: torch.Tensor) -> None:
        self.closest = min(self.closest, distances.abs().min().item())


def computed(case: Case, module: nn.Module, inputs: list[torch.Tensor], gradients: bool) -> dict[str, torch.Tensor]:
    """Outputs, buffers afterwards and, for random gradients of the outputs, those of inputs and parameters."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    outputs = as_list(case.call(module, inputs))
    results = {f"output {i}": y.detach() for i, y in enumerate(outputs)}
    results.update({f"buffer {name}": value for name, value in module.named_buffers()})
    if gradients:
        generator = torch.Generator().manual_seed(0)
        torch.autograd.backward(outputs, [torch.randn(y.shape, generator=generator).to(y.dtype) for y in outputs])
        results.update({f"gradient of input {i}": x.grad for i, x in enumerate(inputs)})
        results.update({f"gradient of {name}": p.grad for name, p in module.named_parameters()})
    return results


def as_list(outputs: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else outputs


def differences(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """The largest difference within each result, relative to the largest number that is expected there."""
    assert found.keys() == expected.keys()
    assert all(found[name].shape == value.shape for name, value in expected.items())
    largest = {name: value.double().abs().max().clamp(min=torch.finfo().tiny) for name, value in expected.items()}
    return {name: ((found[name] - value).abs().max() / largest[name]).item() for name, value in expected.items()}


def drawn(
    case: Case, batch: int, size: Size, dtype: torch.dtype, training: bool, gradients: bool
) -> tuple[nn.Module, list[torch.Tensor], dict[str, torch.Tensor]]:
    """An accelerated module with random weights, inputs, and what the plain one computes of them in float64.

    Passed over is what comes close to a jump, and what float32 itself is too coarse for: where the gradient of a single
    number nearly cancels, the plain one in float32 is as far from that in float64 as any other computation.
    """
    # in float64 none comes that close, but for the equal maxima of an image's padding, which do no harm
    of_the_gradient = gradients and dtype == torch.float32
    for seed in range(100):
        torch.manual_seed(seed)
        module = accelerate(randomised(case.plain(**case.arguments))).to(dtype).train(training)
        inputs = [case.amplitude(size) * torch.randn(shape, dtype=dtype) for shape in case.shapes(batch, size)]
        exact = counterpart(case.plain(**case.arguments), module)
        with DistanceFromJumps(of_the_gradient) as jumps:
            expected = computed(case, exact, [x.double() for x in inputs], gradients)
        if jumps.closest < 16 * torch.finfo(dtype).eps:
            continue
        if dtype == torch.float64:
            return module, inputs, expected
        rounded = counterpart(case.plain(**case.arguments), module, dtype)
        if not beyond(TOLERANCE[dtype] / 4, case, computed(case, rounded, inputs, gradients), expected, training):
            return module, inputs, expected
    raise AssertionError("a hundred draws were all passed over")


def beyond(
    tolerance: float, case: Case, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], training: bool
) -> dict[str, float]:
    """The relative differences of those results that differ by more than the tolerance."""
    cancelled = {f"gradient of {name}" for name in case.cancelled if training}
    relative = differences(found, expected)
    return {name: d for name, d in relative.items() if not d <= tolerance and name not in cancelled}


def check(case: Case, batch: int, size: Size, dtype: torch.dtype, training: bool, gradients: bool = True) -> None:
    module, inputs, expected = drawn(case, batch, size, dtype, training, gradients)
    found = computed(case, module, inputs, gradients)
    assert all(found[name].dtype == dtype for name, value in expected.items() if value.is_floating_point())
    assert not beyond(TOLERANCE[dtype], case, found, expected, training)
    if not training:
        with torch.no_grad():  # for which a module may take a way of its own
            predicted = computed(case, module, inputs, gradients=False)
        assert not beyond(TOLERANCE[dtype], case, predicted, {name: expected[name] for name in predicted}, training)


# the units


def maps(*channels: int, scale: float = 1) -> Callable:
    """Shapes of maps of the image's size, or of a multiple of it."""
    return lambda batch, size: [(batch, c, *(math.ceil(scale * side) for side in size)) for c in channels]


def pyramids(number: int, widths: Sequence[int]) -> Callable:
    """Shapes of one or more pyramids of features, each stage half as large as the one before."""
    return lambda batch, size: [
        (batch, width, *(-(-side // 2**i) for side in size)) for _ in range(number) for i, width in enumerate(widths)
    ]


def moderate_products(size: Size) -> float:
    """With this amplitude the softmax over products of whole maps, DANIE's equation 6, is neither flat nor one-hot."""
    return 3 / math.sqrt(math.prod(size))


def unit(plain: type[nn.Module], shapes: Callable, **arguments) -> Case:
    return Case(plain, arguments, shapes)


SGU, FGU, DMAU = sfmanet.SpatialGatingUnit, sfmanet.FrequencyGatingUnit, sfmanet.DualAxisMultiScaleAttentionUnit
IEM, AXIAL = sfmanet.InformationEnhancementModule, sfmanet.AxialAttention

UNITS = {
    "SGU": unit(SGU, maps(16), channels=16),
    "SGU, threshold 0.2": unit(SGU, maps(16), channels=16, threshold=0.2),
    "SGU, threshold 0.8": unit(SGU, maps(16), channels=16, threshold=0.8),
    "SGU, one group": unit(SGU, maps(6), channels=6),
    "SGU, sixteen groups": unit(SGU, maps(64, scale=0.5), channels=64),
    "SGU, disjoint gate": unit(SGU, maps(16), channels=16, gate="disjoint"),
    "SGU, sum over a group": unit(SGU, maps(16), channels=16, weight="group_sum"),
    "SGU, as its ancestor": unit(SGU, maps(16), channels=16, weight="channel_sum", beta=False),
    "FGU": unit(FGU, maps(16), channels=16),
    "FGU, alpha 0.25": unit(FGU, maps(32), channels=32, alpha=0.25),
    "FGU, alpha 0.75": unit(FGU, maps(32), channels=32, alpha=0.75),
    "FGU, squeeze 4": unit(FGU, maps(32), channels=32, squeeze=4),
    "FGU, two groups": unit(FGU, maps(16), channels=16, groups=2),
    "FGU, literal": unit(FGU, maps(16), channels=16, rescale=False, seed=1),
    "DMAU": unit(DMAU, maps(8, 8, 8, 8), channels=8),
    "DMAU, two strips": unit(DMAU, maps(8, 8, 8, 8), channels=8, kernel_sizes=(3, 9)),
    "strip": unit(StripConvolution, maps(6), channels=6, length=11),
    "strip, longer than a map": unit(StripConvolution, maps(6), channels=6, length=21),
    "CAA": unit(AXIAL, maps(16), channels=16, axis="column"),
    "RAA": unit(AXIAL, maps(16), channels=16, axis="row"),
    "CAA, as its ancestor": unit(AXIAL, maps(16), channels=16, axis="column", scaled=False, factor=True),
    "RAA, as its ancestor": unit(AXIAL, maps(16), channels=16, axis="row", scaled=False, factor=True),
    "IEM": unit(IEM, maps(16), channels=16),
    "IEM, cost-matched": unit(IEM, maps(16), channels=16, fuse_kernel=3, pointwise=False),
    "IEM, grouped": unit(IEM, maps(16), channels=16, fuse_groups=4),
    "IEM, identity": unit(IEM, maps(16), channels=16, attention="identity"),
    "skip": unit(GatedSkip, maps(16), channels=16, sgu={}, fgu={}, dmau=True, init_pointwise=False),
    "skip, pointwise": unit(GatedSkip, maps(16), channels=16, sgu={}, fgu={}, dmau=True, init_pointwise=True),
    "skip, no DMAU": unit(GatedSkip, maps(16), channels=16, sgu={}, fgu={}, dmau=False, init_pointwise=False),
    "double convolution": unit(DoubleConvolution, maps(3), in_channels=3, out_channels=8),
}


@pytest.mark.parametrize("name", ["SGU", "double convolution"])
def test_jumps_are_seen(name):
    case = UNITS[name]
    with DistanceFromJumps(of_the_gradient=True) as jumps:
        case.call(case.plain(**case.arguments), [torch.randn(shape) for shape in case.shapes(2, (8, 8))])
    assert 0 < jumps.closest < 0.1


def test_every_fast_class_is_compared():
    compared = {case.plain for case in UNITS.values()}
    assert {plain for plain in FAST["cpu"] if plain not in (nn.Conv2d, nn.Linear)} == compared
    for plain, fast in FAST["cpu"].items():
        assert issubclass(fast, plain) and FAST["cuda"].get(plain, fast) is fast


@RUNS
@pytest.mark.parametrize("case", UNITS.values(), ids=UNITS.keys())
def test_units(case, dtype, batch, size, training):
    check(case, batch, size, dtype, training)


# maps that are computed in parts
LARGE = {
    "SGU": (unit(SGU, maps(16), channels=16), 1, (90, 370)),
    "FGU": (unit(FGU, maps(16), channels=16), 1, (90, 370)),
    "DMAU": (unit(DMAU, maps(16, 16, 16, 16), channels=16, kernel_sizes=(11,)), 1, (90, 370)),
    "IEM": (unit(IEM, maps(16), channels=16), 2, (45, 190)),
    "SGU, disjoint gate": (unit(SGU, maps(16), channels=16, gate="disjoint"), 1, (90, 370)),
}


@pytest.mark.parametrize("case, batch, size", LARGE.values(), ids=LARGE.keys())
def test_units_on_large_maps(case, batch, size):
    check(case, batch, size, torch.float64, training=True)


# the networks


def network(plain: type[nn.Module], input_channels: int, cancelled: frozenset[str] = frozenset(), **arguments) -> Case:
    arguments = {"input_channels": input_channels, "num_classes": 2, **arguments}
    return Case(plain, arguments, maps(input_channels), cancelled=cancelled)


def narrow_sfmanet(input_channels: int = 1, widths: Sequence[int] = (16, 32, 64), **switches) -> Case:
    return network(sfmanet.SFMANet, input_channels, features_per_stage=widths, **switches)


def narrow_danie(input_channels: int = 1, **switches) -> Case:
    sizes = {"image_size": (50, 64), "features_per_stage": (32, 32, 64, 64), "depths": (1, 1, 1, 1)}
    cancelled = cancelled_by_batch_norm((1, 1, 1, 1)) if switches.get("self_attention", True) else frozenset()
    return network(danie.DANIE, input_channels, cancelled, **sizes, **switches)


NETWORKS = {
    "SFMANet": narrow_sfmanet,
    "U-Net": partial(narrow_sfmanet, sfgu=False, dmau=False, iem_stages=0),
    "DANIE": narrow_danie,
}
SWITCHES = {
    "no SFGU": narrow_sfmanet(sfgu=False, dmau=False),
    "no DMAU": narrow_sfmanet(dmau=False),
    "no IEM": narrow_sfmanet(iem_stages=0),
    "one IEM": narrow_sfmanet(iem_stages=1),
    "cost-matched": narrow_sfmanet(iem_fuse_kernel=3, iem_pointwise=False),
    "grouped fusion": narrow_sfmanet(iem_fuse_groups=4),
    "separable start": narrow_sfmanet(init_pointwise=True),
    "threshold 0.2": narrow_sfmanet(sgu_threshold=0.2),
    "threshold 0.8": narrow_sfmanet(sgu_threshold=0.8),
    "alpha 0.25": narrow_sfmanet(widths=(32, 64), fgu_alpha=0.25),
    "alpha 0.75": narrow_sfmanet(widths=(32, 64), fgu_alpha=0.75),
    "squeeze 4": narrow_sfmanet(widths=(32, 64), fgu_squeeze=4),
    "two groups": narrow_sfmanet(fgu_groups=2),
    "literal weights": narrow_sfmanet(fgu_rescale=False),
    "printed forms": narrow_sfmanet(
        sgu_weight="group_sum", sgu_gate="disjoint", fgu_rescale=False, init_pointwise=True, iem_attention="unscaled"
    ),
    "ancestors' forms": narrow_sfmanet(
        sgu_weight="channel_sum", sgu_beta=False, fgu_rescale=False, iem_attention="unscaled", iem_attention_factor=True
    ),
    "identity for attention": narrow_sfmanet(iem_attention="identity"),
    "other backbone": narrow_danie(backbone="maxvit_tiny_tf_224", blocks_per_stage=1),
    "no hierarchical attention": narrow_danie(hierarchical_attention=False, fusion="add"),
    **{f"fusion {name}": narrow_danie(fusion=name, blocks_per_stage=1) for name in FUSIONS[1:2]},
}


@RUNS
@pytest.mark.parametrize("narrow", NETWORKS.values(), ids=NETWORKS.keys())
def test_networks(narrow, dtype, batch, size, training):
    # in float32 the plain networks' own gradients are off by up to 1e-3 of their largest number
    check(narrow(3 if batch == 1 else 1), batch, size, dtype, training, gradients=dtype == torch.float64)


@pytest.mark.parametrize("case", SWITCHES.values(), ids=SWITCHES.keys())
def test_switches(case):
    check(case, 1, (22, 13), torch.float64, training=True)
