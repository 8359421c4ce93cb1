"""Prints, as JSON, which kernel each card of the stub would attend with, trained and not: run by its test."""

import json
import sys

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_sfma.networks.accelerate.fused_attention import attend


class Kernels(TorchDispatchMode):
    """Notes the fused attention that is called; where none is, all the weights are built."""

    def __init__(self):
        super().__init__()
        self.name = "math"

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.removeprefix("_scaled_dot_product_")
        if name != function.__name__:
            self.name = name.partition("_attention")[0]
        return function(*args, **(kwargs or {}))


def kernel(function, channels: int, dtype: torch.dtype, trained: bool) -> str:
    q, v = (
        torch.empty(2, 64, 64, width, device="cuda", dtype=dtype, requires_grad=trained)
        for width in (channels // 8, channels)
    )
    with Kernels() as kernels:
        out = function(q, q, v)
    if trained:
        out.sum().backward()
    return kernels.name


if __name__ == "__main__":
    widths, dtypes = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    found = []
    for card in range(torch.cuda.device_count()):
        with torch.cuda.device(card), FakeTensorMode():
            for name, function in (("attend", attend), ("plain", scaled_dot_product_attention)):
                for dtype in dtypes:
                    for width in widths:
                        for trained in (True, False):
                            chosen = kernel(function, width, getattr(torch, dtype), trained)
                            found.append([name, torch.cuda.get_device_capability(), dtype, width, trained, chosen])
    print(json.dumps(found))
