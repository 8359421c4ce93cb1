"""The work that the benchmarks time: an inference or a training step of a network on random images."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from machine import PRECISIONS
from networks import CLASSES
from torch import nn

Step = Callable[[], torch.Tensor | None]


@dataclass(frozen=True)
class Work:
    """What is done with a network.

    Attributes:
        mode: "inference", or "training": forward, nnU-Net's Dice + cross-entropy, backward, Adam, without deep
            supervision.
        batch: images.
        side: of the images, in pixels.
        precision: a key of ``PRECISIONS``; half precision is autocast, in training fp16 with a gradient scaler.
        layout: "eager", "channels_last" or "compiled" (torch.compile's default mode, static shapes).
    """

    mode: str
    batch: int
    side: int
    precision: str = "fp32"
    layout: str = "eager"

    def __str__(self) -> str:
        return f"{self.mode} {self.batch} x {self.side}^2 {self.precision} {self.layout}"

    def autocast(self, device: torch.device):
        """The context that the network computes in."""
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)

    def images(self, device: torch.device, channels: int = 1) -> torch.Tensor:
        """Random images (B, C, H, W)."""
        images = torch.randn(self.batch, channels, self.side, self.side, device=device)
        return images.to(memory_format=self._memory_format)

    def place(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network on the device, in this mode and memory format, not compiled."""
        return network.to(device=device, memory_format=self._memory_format).train(self.mode == "training")

    def step(self, network: nn.Module, device: torch.device, channels: int = 1, compiled: bool = False) -> Step:
        """One step of this work, to be called again and again.

        Args:
            network: is placed; a training changes its weights.
            device: to work on.
            channels: of the images.
            compiled: compile it, when the step is called first.
        """
        network = self.place(network, device)
        function = torch.compile(network, dynamic=False) if compiled else network
        images = self.images(device, channels)
        if self.mode == "inference":
            return self._inference_step(function, images)
        target = torch.randint(CLASSES, (self.batch, 1, self.side, self.side), device=device)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        return training_step(function, optimizer, lambda: (images, target), self)

    def _inference_step(self, function: Callable, images: torch.Tensor) -> Step:
        def step() -> None:
            with torch.inference_mode(), self.autocast(images.device):
                function(images)

        return step

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format


def training_step(function: Callable, optimizer: torch.optim.Optimizer, batch: Callable[[], tuple], work: Work) -> Step:
    """A training step with nnU-Net's loss; it returns the loss as a tensor.

    Args:
        function: the network, compiled or not.
        optimizer: of its parameters; its state is made here, so that each step takes the same memory.
        batch: returns images and target (B, 1, H, W).
        work: whose precision counts.
    """
    loss_of = _nnunet_loss()
    device = optimizer.param_groups[0]["params"][0].device
    # from a scale that does not overflow: a step that is skipped takes less time
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**8, enabled=work.precision == "fp16")
    _make_state(optimizer)

    def step() -> torch.Tensor:
        images, target = batch()
        with work.autocast(device):
            loss = loss_of(function(images), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return loss.detach()

    return step


def _nnunet_loss() -> nn.Module:
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)


def _make_state(optimizer: torch.optim.Optimizer) -> None:
    """A step of Adam without gradients moves nothing, but allocates the moments."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
