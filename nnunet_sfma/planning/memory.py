"""How much memory the training of a network takes, and which batch fits; counted on fake tensors, nothing is allocated.

nnU-Net's planner sizes the batch for its own U-Net, so its figure says nothing about other networks.

Conventions: one CUDA GPU, in the precision that the recipe trains in there, with the units that it trains. Counted are
weights, gradients, the optimiser's state, what autograd keeps for the backward pass and what the loss keeps of the
network's output. Two reserves cover the rest, see ``TRANSIENT_FACTOR`` and ``RESERVED_BYTES``. Where nnU-Net compiles
the network, its compiler decides what is kept: that is not counted.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nnunet_sfma.errors import UserError
from nnunet_sfma.networks.accelerate import accelerate, checkpoint_activations
from nnunet_sfma.trainers.complete_plans import build_network
from nnunet_sfma.trainers.recipe import Recipe

GB = 2**30
"""As makers of GPUs count."""

PRECISIONS = {"auto": torch.float16, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": None}
"""What a training is autocast to. Which of the two "auto" becomes the GPU decides; for float16 more is kept, what was
clamped to its range."""

STATE_PER_PARAMETER = {"Adam": 2, "AdamW": 2, "SGD": 1}
"""Numbers that an optimiser keeps for each parameter: two moments, or the momentum."""

LOSS_MAPS = 3
"""Maps of the output's size in float32: the output itself, and one each that cross-entropy and Dice keep."""

TRANSIENT_FACTOR = 1.35
"""On what a batch takes. Tensors that live only for a moment, most of them gradients, took at most 31 % more in a step
of any network that was counted (SFMANet in bfloat16), and 2 % in DANIE; the rest is for workspaces of convolutions and
gaps in the allocator's blocks."""

LARGEST_UNIT = 0.5
"""Share of what all units keep inside that is there at a time where the backward pass computes activations again, one
unit after another: that of the largest, and its gradients. It was 0.31 to 0.49 in SFMANets counted with float16."""

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
        precision: of the training step, for people.
    """

    fixed_bytes: int
    bytes_per_image: int
    precision: str

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
    recipe = Recipe.from_plan(block["training"])
    architecture = json.dumps(block["architecture"], sort_keys=True)
    dtype, ways = PRECISIONS[recipe.precision], (recipe.accelerate, recipe.activation_checkpointing)
    weights, few, more = _counted(architecture, outputs, (channels, *block["patch_size"]), dtype, *ways)
    state = STATE_PER_PARAMETER[recipe.optimizer] + bool(recipe.optimizer_kwargs.get("amsgrad"))
    per_image = (more - few) / MIN_BATCH
    return MemoryEstimate(
        fixed_bytes=(2 + state) * weights + math.ceil(few - MIN_BATCH * per_image) + RESERVED_BYTES,
        bytes_per_image=math.ceil(per_image),
        precision=_name(dtype),
    )


@cache
def _counted(
    architecture: str, outputs: int, shape: tuple[int, ...], dtype: torch.dtype | None, fast: bool, checkpointing: bool
) -> tuple[int, float, float]:
    """Bytes of the weights, and of what else a step takes but gradients and state: with 2 images, and with 4."""
    with torch.device("meta"):
        network = build_network(json.loads(architecture), shape[0], outputs).train()
    if fast:
        accelerate(network)
    batches = [(images, *shape) for images in (MIN_BATCH, 2 * MIN_BATCH)]
    with on_fake_gpu(network):
        kept = [kept_bytes(network, batch, dtype) for batch in batches]
        if checkpointing:
            checkpoint_activations(network)
            between = [kept_bytes(network, batch, dtype) for batch in batches]
            kept = [less + LARGEST_UNIT * (more - less) for more, less in zip(kept, between, strict=True)]
        weights = sum(parameter.nbytes for parameter in network.parameters())
    return weights, *(TRANSIENT_FACTOR * number for number in kept)


def _name(dtype: torch.dtype | None) -> str:
    return "float32" if dtype is None else f"{str(dtype).removeprefix('torch.')} autocast"


@contextmanager
def on_fake_gpu(network: nn.Module) -> Iterator[None]:
    """A context in which a network lies on a GPU that need not be there, as do the tensors made there with that device.

    Args:
        network: on the meta device; few can be made of fake tensors.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), FusedAttention():
        # each once: nnU-Net's residual blocks hold their layers under two names, and a fake tensor cannot move twice
        for module in network.modules():
            module.to_empty(device="cuda", recurse=False)
        yield


def kept_bytes(network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> int:
    """Bytes that autograd and the loss keep between forward and backward pass, besides parameters and buffers.

    Args:
        network: on a fake GPU.
        shape: (batch, channels, height, width).
        dtype: of autocast; None for none.
    """
    owned = {tensor.untyped_storage() for tensor in (*network.parameters(), *network.buffers())}
    kept = set()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.add(tensor.untyped_storage())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), _autocast(dtype):
        output = network(torch.empty(shape, device="cuda"))
    return sum(storage.nbytes() for storage in kept - owned) + LOSS_MAPS * output.numel() * 4


class FusedAttention(TorchFunctionMode):
    """Attention keeps what the fused kernels of GPUs keep, whether or not there is a GPU that says which it takes."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            return _attend(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **of_no_matter):
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    return kernel(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]


@contextmanager
def _autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """``torch.autocast`` on a GPU, which does nothing where there is none."""
    torch.set_autocast_enabled("cuda", dtype is not None)
    torch.set_autocast_dtype("cuda", dtype or torch.float16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)


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
        f"of {patch_size[0]} x {patch_size[1]} ({estimate.precision}; the reserve is 1 GB and "
        f"{TRANSIENT_FACTOR - 1:.0%} of what is kept for the backward pass)."
    )
