"""Numbers that the CPU has from a fake GPU, and who waits for them."""

import traceback
from functools import partial
from pathlib import Path

import nnunetv2
import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

import nnunet_sfma

ATEN = torch.ops.aten
CALLERS = tuple(str(Path(module.__file__).parent) for module in (nnunet_sfma, nnunetv2, torch.amp))


class Downloads(TorchDispatchMode):
    """Gives the CPU numbers where it asks a fake GPU for them, and notes who waits.

    All are 0, and whatever is asked for all numbers of a map is true: nothing is infinite, and no step is left out. A
    number of the CPU itself, where Adam counts its steps, is 1.

    Attributes:
        waits: the function of this package, of nnU-Net or of PyTorch's scaler that each wait is in, in order.
    """

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not args or not isinstance(args[0], FakeTensor):
            return function(*args, **kwargs)
        if torch.is_inference_mode_enabled() and function.namespace == "aten":
            with self:  # operations arrive whole, with the wish for a number in them
                parts = function.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        if function.overloadpacket is ATEN._local_scalar_dense:
            return self._number(args[0])
        out = function(*args, **kwargs)
        if function.overloadpacket is ATEN.all:
            out.is_true = True
        if function.overloadpacket is ATEN._to_copy and out.device.type == "cpu":
            self._note(args[0])
            out.numpy = partial(np.zeros, tuple(out.shape), np.float32)  # a fake tensor's own holds anything
        return out

    def _number(self, asked: FakeTensor) -> bool | int | float:
        self._note(asked)
        if asked.dtype.is_floating_point:
            return float(asked.device.type == "cpu")
        return getattr(asked, "is_true", 0)

    def _note(self, asked: FakeTensor) -> None:
        if asked.device.type == "cuda":
            frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(CALLERS)]
            self.waits.append([frame.name for frame in frames if not frame.name.startswith("<")][-1])
