"""Trains networks of presets for one step on a fake GPU, and prints what went wrong as JSON: run by its test."""

import json

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunet_sfma.networks.accelerate import accelerate
from nnunet_sfma.presets import load_preset
from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch
from tests.cuda_path.fake_cuda import on_fake_cuda, train_once

DICE = {"batch_dice": True, "do_bg": False, "ddp": False}
BATCH, CHANNELS, CLASSES, SIDE = 2, 3, 2, 64
# each unit once; the wider and deeper networks are more of the same
SMALLER = {
    "SFMANet": {"features_per_stage": [32, 64], "iem_stages": 1},
    "DANIE": {"features_per_stage": [32, 32, 32, 32], "blocks_per_stage": 1},
}
WAYS = {  # autocast and layout
    "float16": (torch.float16, torch.contiguous_format),
    "bfloat16, channels last": (torch.bfloat16, torch.channels_last),
    "float32": (None, torch.contiguous_format),
}
TRAINED = [
    ("sfmanet", "float16"),
    ("sfmanet", "bfloat16, channels last"),
    ("sfmanet-r1", "float32"),
    ("danie-s", "float16"),
    ("danie-c5-joint-preservation", "bfloat16, channels last"),
]


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


class Unused(Item):
    """Has a parameter that gets no gradient."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return nn.Conv2d.forward(self, x)


FAULTS = {fault.__name__: fault for fault in (BufferLeftBehind, NumberLeftBehind, Item, Download, Unused)}


def problem(network: nn.Module, dtype: torch.dtype | None, layout: torch.memory_format) -> str:
    """What one step of training fails with on a fake GPU; empty if it does not."""
    with FakeTensorMode() as mode:
        network = on_fake_cuda(network, mode)
        images = torch.empty(BATCH, CHANNELS, SIDE, SIDE, device="cuda").contiguous(memory_format=layout)
        target = torch.zeros(BATCH, 1, SIDE, SIDE, device="cuda")
        loss = DC_and_CE_loss(
            {"batch_dice": True, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
        )
        try:
            output = train_once(network, images, lambda logits: loss(logits, target), dtype)
        except Exception as error:  # whatever it is, it is what the test shows
            return f"{type(error).__name__}: {error}"
    expected = (BATCH, CLASSES, SIDE, SIDE)
    return "" if output.shape == expected and output.device.type == "cuda" else f"{output.shape} on {output.device}"


def small_network(preset: str) -> nn.Module:
    block = fit_to_patch(load_preset(preset).architecture, [SIDE, SIDE])
    block["arch_kwargs"] |= SMALLER[block["network_class_name"].rpartition(".")[2]]
    return accelerate(build_network(block, CHANNELS, CLASSES))


if __name__ == "__main__":
    found = {name: problem(fault(), *WAYS["float32"]) for name, fault in FAULTS.items()}
    for preset, way in TRAINED:
        found[f"{preset}, {way}"] = problem(small_network(preset), *WAYS[way])
    print(json.dumps(found))
