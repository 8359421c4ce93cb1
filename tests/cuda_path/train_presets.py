"""Trains the networks of all presets for one step on a fake GPU, and prints what went wrong as JSON: run by its test.

Of fast units, which are what is trained, and of plain ones; number formats and layouts of the image take turns.
"""

import json
import sys
from collections.abc import Iterable
from itertools import cycle

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunet_sfma.networks.accelerate import accelerate
from nnunet_sfma.trainers.complete_plans import build_network
from tests.cuda_path.fake_cuda import on_fake_cuda, train_once
from tests.cuda_path.networks import SIDE, distinct_networks, nnunets_loss

BATCH, CHANNELS, CLASSES = 2, 3, 2
WAYS = {  # autocast and layout
    "fast": [(torch.float16, torch.contiguous_format), (torch.bfloat16, torch.channels_last)],
    "plain": [
        (torch.float16, torch.channels_last),
        (torch.bfloat16, torch.contiguous_format),
        (None, torch.contiguous_format),
    ],
}


class BufferLeftBehind(nn.Conv2d):
    """Holds a tensor that no ``to`` moves."""

    def __init__(self):
        super().__init__(CHANNELS, CLASSES, 1)
        self.shift = torch.ones(1, CHANNELS, 1, 1)

    def forward(self, x):
        return super().forward(x + self.shift)


class NumberLeftBehind(BufferLeftBehind):
    """Holds a number on the CPU that CUDA would take, once it is copied."""

    def __init__(self):
        super().__init__()
        self.shift = torch.ones(())


class Item(nn.Conv2d):
    """Waits for the GPU."""

    def __init__(self):
        super().__init__(CHANNELS, CLASSES, 1)

    def forward(self, x):
        return super().forward(x / x.abs().max().item())


class Download(Item):
    """Computes on the CPU."""

    def forward(self, x):
        return nn.Conv2d.forward(self, x.cpu().cuda())


class Single(Item):
    """Convolves in single precision under autocast."""

    def forward(self, x):
        with torch.autocast("cuda", enabled=False):
            return nn.Conv2d.forward(self, x)


class Unused(Item):
    """Has a parameter that gets no gradient."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return nn.Conv2d.forward(self, x)


FAULTS = {fault.__name__: fault for fault in (BufferLeftBehind, NumberLeftBehind, Item, Download, Single, Unused)}


def problem(network: nn.Module, dtype: torch.dtype | None, layout: torch.memory_format) -> str:
    """What one step of training fails with on a fake GPU; empty if it does not."""
    loss = nnunets_loss()
    with FakeTensorMode() as mode:
        network = on_fake_cuda(network, mode)
        images = torch.empty(BATCH, CHANNELS, SIDE, SIDE, device="cuda").contiguous(memory_format=layout)
        target = torch.zeros(BATCH, 1, SIDE, SIDE, device="cuda")
        try:
            output = train_once(network, images, lambda logits: loss(logits, target), dtype)
        except Exception as error:  # whatever it is, it is what the test shows
            return f"{type(error).__name__}: {error}"
    expected = (BATCH, CLASSES, SIDE, SIDE)
    return "" if output.shape == expected and output.device.type == "cuda" else f"{output.shape} on {output.device}"


def problems_of_networks(units: str, names: Iterable[str]) -> dict[str, str]:
    """By preset."""
    found, blocks = {}, distinct_networks()
    for name, way in zip(names or blocks, cycle(WAYS[units]), strict=False):
        network = build_network(blocks[name], CHANNELS, CLASSES)
        found[name] = problem(accelerate(network) if units == "fast" else network, *way)
    return found


if __name__ == "__main__":
    units, *presets = sys.argv[1:]
    faults = {name: problem(fault(), *WAYS["fast"][0]) for name, fault in FAULTS.items()}
    print(json.dumps(faults | problems_of_networks(units, presets)))
