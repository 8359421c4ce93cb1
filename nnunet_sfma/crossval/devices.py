"""The devices that jobs are run on, one job each at a time."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_sfma.devices import refuse_missing_device


@dataclass(frozen=True)
class Device:
    """A GPU, or the machine's processors.

    Attributes:
        name: for people, such as "cuda:1".
        visible: what CUDA_VISIBLE_DEVICES is set to for its jobs; None leaves it as it is.
    """

    name: str
    visible: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {} if self.visible is None else {"CUDA_VISIBLE_DEVICES": self.visible}


def find_devices(kind: str | None) -> list[Device]:
    """The visible GPUs, or the one CPU or Apple GPU.

    Args:
        kind: "cuda", "cpu", "mps" or None: cuda if there is a GPU, else cpu.

    Raises:
        UserError: if there is no such device.
    """
    import torch

    if kind:
        refuse_missing_device(kind)
    number = torch.cuda.device_count() if kind in (None, "cuda") else 0
    if not number:
        return [Device(kind or "cpu")]
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = visible[:number] or [str(index) for index in range(number)]
    return [Device(f"cuda:{name}", name) for name in names]


def kind_of(devices: Sequence[Device]) -> str:
    """What nnU-Net's ``-device`` takes for them."""
    return devices[0].name.split(":")[0]
