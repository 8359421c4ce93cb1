"""What a network's modules receive and return, collected while it runs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import nn


class Call(NamedTuple):
    """One call of a module.

    Attributes:
        received: its first input.
        returned: its output, or the first of its outputs.
    """

    received: torch.Tensor
    returned: torch.Tensor


Calls = dict[str, list[Call]]


@contextmanager
def collect(network: nn.Module, names: re.Pattern) -> Iterator[Calls]:
    """Collect the calls of the modules whose full names match, in their order, by module name.

    The tensors are the network's own, detached; nothing it computes changes. The hooks go with the context.
    """
    calls: Calls = {}
    handles = []
    try:
        for name, module in network.named_modules():
            if names.fullmatch(name):
                handles.append(module.register_forward_hook(partial(_keep, calls.setdefault(name, []))))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _keep(
    calls: list[Call],
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    output: torch.Tensor | tuple[torch.Tensor, ...],
) -> None:
    first = output if isinstance(output, torch.Tensor) else output[0]
    calls.append(Call(inputs[0].detach(), first.detach()))
