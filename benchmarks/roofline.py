"""What a step has to compute and to move at least, and how long that takes at the machine's ceilings.

Each operator that PyTorch runs, backward and optimiser included, reads its tensors and writes its results once; views
move nothing. Its operations are those of ``torch.utils.flop_counter`` (convolutions, matrix products, attention; all
else counts none). At the roof an operator takes the longer of the two times. Small tensors stay in caches, which are
faster than the memory that the ceiling is measured on: a share of the roof above 1 is possible, if rare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
MOVE_NOTHING = {
    aten._unsafe_view,
    aten.detach,
    aten.detach_,
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.lift_fresh,
    aten.new_empty,
    aten.new_empty_strided,
    aten.resize_,
    aten.set_,
}


def _convolution_backward(
    gradient, image, weight, bias, stride, padding, dilation, transposed, output_padding, groups, wanted, **kwargs
) -> int:
    """As much as the convolution for each of the two gradients. PyTorch's formula counts that of the weights of a
    depthwise convolution as if each channel met all others."""
    forward = flop_counter.conv_flop_count(image.shape, weight.shape, gradient.shape, transposed)
    return forward * (wanted[0] + wanted[1])


FORMULAS = {
    # not in the registry of every PyTorch that is supported
    aten._scaled_dot_product_flash_attention_for_cpu: flop_counter.sdpa_flop,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_counter.sdpa_backward_flop,
    **flop_counter.flop_registry,
    aten.convolution_backward: _convolution_backward,
}


@dataclass(frozen=True)
class Operator:
    """One call: its operations (a multiply-add is two), the bytes it moves, and the type it computes in."""

    operations: int
    bytes: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Count:
    """All operators of a step."""

    operators: tuple[Operator, ...]

    @property
    def multiply_adds(self) -> int:
        return sum(operator.operations for operator in self.operators) // 2

    @property
    def bytes(self) -> int:
        return sum(operator.bytes for operator in self.operators)

    def seconds_at_roof(self, ceilings: dict[torch.dtype, dict[str, float]]) -> float:
        """The least time of the step on a machine with these ceilings; types without one take that of float32."""
        seconds = 0.0
        for operator in self.operators:
            roof = ceilings.get(operator.dtype, ceilings[torch.float32])
            seconds += max(
                operator.operations / roof["operations_per_second"], operator.bytes / roof["bytes_per_second"]
            )
        return seconds


def count(step: Callable[[], object]) -> Count:
    """Run a step, eager, and count it."""
    with _Counter() as counter:
        step()
    return Count(tuple(counter.operators))


class _Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operators: list[Operator] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in FORMULAS:  # in inference mode operators arrive that are made of others
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if not func.is_view and packet not in MOVE_NOTHING:
            inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            formula = FORMULAS.get(packet)
            operations = formula(*args, **kwargs, out_val=result) if formula else 0
            moved = sum(_bytes(tensor) for tensor in (*inputs, *outputs))
            if inputs or outputs:
                self.operators.append(Operator(operations, moved, (inputs or outputs)[0].dtype))
        return result


def _bytes(tensor: torch.Tensor) -> int:
    """Without repetitions: an expanded axis is read once."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return prod(sizes) * tensor.element_size()
