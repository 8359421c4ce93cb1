"""How much memory the training of a network takes, and which batch fits; counted on meta tensors, nothing is allocated.

nnU-Net's planner sizes the batch for its own U-Net, so its figure says nothing about other networks.

Conventions: float32, an upper bound for mixed precision, which halves most of what is kept for the backward pass.
Counted are weights, gradients, the optimiser's state, what autograd keeps for the backward pass and what the loss keeps
of the network's output. Two reserves cover the rest, see ``TRANSIENT_FACTOR`` and ``RESERVED_BYTES``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from nnunet_sfma.errors import UserError
from nnunet_sfma.networks.accelerate import accelerate
from nnunet_sfma.trainers.complete_plans import build_network

GB = 2**30
"""As makers of GPUs count."""

STATE_PER_PARAMETER = {"Adam": 2, "AdamW": 2, "SGD": 1}
"""Numbers that an optimiser keeps for each parameter: two moments, or the momentum."""

LOSS_MAPS = 3
"""Maps of the output's size: the output itself, and one each that cross-entropy and Dice keep."""

TRANSIENT_FACTOR = 1.2
"""On what an image takes. Tensors that live only for a moment took 3 % more in SFMANet and at most 10 % in any network
of the presets that was measured; the rest is for workspaces of convolutions and gaps in the allocator's blocks."""

RESERVED_BYTES = GB
"""The CUDA context and what its libraries load and allocate, whatever the network."""

MIN_BATCH = 2
"""nnU-Net's own minimum; batch norm needs more than one sample where the features are a single pixel."""

MAX_DATASET_SHARE = 0.05
"""nnU-Net's own limit for a batch, a precaution against overfitting."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a training, in bytes.

    Attributes:
        fixed_bytes: whatever the batch.
        bytes_per_image: for each image of a batch.
    """

    fixed_bytes: int
    bytes_per_image: int

    def of_batch(self, images: int) -> int:
        """Bytes for a batch of so many images."""
        return self.fixed_bytes + images * self.bytes_per_image

    def largest_batch(self, available_bytes: float) -> int:
        """Most images whose training fits into so many bytes; 0 or less if none does."""
        return math.floor((available_bytes - self.fixed_bytes) / self.bytes_per_image)


def estimate_memory(plans: dict, configuration: str, dataset_json: dict) -> MemoryEstimate:
    """Estimate what training with complete plans takes.

    Args:
        plans: with ``architecture`` and ``training`` of ours.
        configuration: for instance "2d".
        dataset_json: nnU-Net's description of the data set, which says how many channels and outputs there are.
    """
    manager = PlansManager(plans)
    channels = determine_num_input_channels(manager, configuration, dataset_json)
    outputs = manager.get_label_manager(dataset_json).num_segmentation_heads
    block = manager.get_configuration(configuration).configuration
    with torch.device("meta"):
        network = build_network(block["architecture"], channels, outputs).train()
        if block["training"].get("accelerate", True):
            accelerate(network)
    weights = sum(parameter.nbytes for parameter in network.parameters())
    training = block["training"]
    state = STATE_PER_PARAMETER[training["optimizer"]] + bool(training["optimizer_kwargs"].get("amsgrad"))
    kept = kept_bytes(network, (MIN_BATCH, channels, *block["patch_size"])) / MIN_BATCH
    return MemoryEstimate(
        fixed_bytes=(2 + state) * weights + RESERVED_BYTES, bytes_per_image=math.ceil(TRANSIENT_FACTOR * kept)
    )


def kept_bytes(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes that autograd and the loss keep between forward and backward pass, besides parameters and buffers.

    Args:
        network: on the meta device.
        shape: (batch, channels, height, width).
    """
    owned = {tensor.untyped_storage() for tensor in (*network.parameters(), *network.buffers())}
    kept = set()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.add(tensor.untyped_storage())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(torch.empty(shape, device="meta"))
    return sum(storage.nbytes() for storage in kept - owned) + LOSS_MAPS * output.nbytes


def choose_batch(estimate: MemoryEstimate, gigabytes: float, slices: int) -> int:
    """The largest batch that fits, but no more than nnU-Net's own limit, 5 % of the slices and at least 2.

    Args:
        estimate: of the network and patch.
        gigabytes: memory of the GPU, in units of 2**30 bytes.
        slices: of all training cases together.

    Raises:
        UserError: if not even a batch of 2 fits.
    """
    if estimate.of_batch(MIN_BATCH) > gigabytes * GB:
        raise UserError(
            f"A batch of {MIN_BATCH} needs an estimated {estimate.of_batch(MIN_BATCH) / GB:.1f} GB, which is more than "
            f"--gpu-memory {gigabytes:g}: choose a smaller patch with --set patch_size=[H,W], a smaller network, or a "
            f"GPU with more memory."
        )
    limit = max(MIN_BATCH, round(MAX_DATASET_SHARE * slices))
    return min(estimate.largest_batch(gigabytes * GB), limit)


def describe(estimate: MemoryEstimate, batch_size: int, patch_size: Sequence[int]) -> str:
    """A sentence for people."""
    return (
        f"Estimated training memory: {estimate.of_batch(batch_size) / GB:.1f} GB for a batch of {batch_size} patches "
        f"of {patch_size[0]} x {patch_size[1]} (float32, an upper bound for mixed precision)."
    )
