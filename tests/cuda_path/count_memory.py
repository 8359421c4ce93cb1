"""Counts the memory that a step of training with plans takes at its peak, on a fake GPU: run by its test."""

import json
import sys
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunet_sfma.networks.accelerate import accelerate, checkpoint_activations
from nnunet_sfma.trainers.complete_plans import build_network
from tests.cuda_path.fake_cuda import on_fake_cuda
from tests.cuda_path.networks import nnunets_loss

CHANNELS, CLASSES = 1, 2


class Peak(TorchDispatchMode):
    """The most bytes that tensors made in it held at once, without allocator and workspaces."""

    def __init__(self):
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        storages = [leaf.untyped_storage() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        new = {storage._cdata: (StorageWeakRef(storage), storage.nbytes()) for storage in storages}
        if not new.keys() <= self.alive.keys():  # else nothing grew
            self.alive = {key: each for key, each in (self.alive | new).items() if not each[0].expired()}
            self.bytes = max(self.bytes, sum(size for _, size in self.alive.values()))
        return out


def peak_of_a_step(configuration: dict) -> int:
    """Bytes of a step's forward and backward pass, with weights and gradients, before the optimiser has a state."""
    architecture, training = configuration["architecture"], configuration["training"]
    network = build_network(architecture, CHANNELS, CLASSES).train()
    accelerate(network)
    if training["activation_checkpointing"]:
        checkpoint_activations(network)
    loss = nnunets_loss()
    with FakeTensorMode() as mode:
        network = on_fake_cuda(network, mode)
        weights = sum(parameter.nbytes for parameter in network.parameters())
        shape = configuration["batch_size"], CHANNELS, *configuration["patch_size"]
        images, target = torch.empty(shape, device="cuda"), torch.zeros(shape, device="cuda")
        with Peak() as peak:
            with torch.autocast("cuda", dtype=torch.float16):
                value = loss(network(images), target)
            value.backward()
    return peak.bytes + weights


if __name__ == "__main__":
    plans = [json.loads(Path(path).read_text()) for path in sys.argv[1:]]
    print(json.dumps([peak_of_a_step(plan["configurations"]["2d"]) for plan in plans]))
