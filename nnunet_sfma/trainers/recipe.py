"""The ``training`` block of a plan as a typed recipe: length, optimiser, schedule, loss weights and precision."""

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nnunet_sfma.networks.quiet_timm import timm
from nnunet_sfma.presets import nearest
from nnunet_sfma.sentences import shortened
from nnunet_sfma.trainers.keyword_arguments import check_keywords

TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    str: "a text",
    type(None): "null",
}
WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
LARGEST_NUMBER = 10**9
LARGEST = {
    "oversample_foreground": 1.0,
    **dict.fromkeys(
        ("initial_lr", "weight_decay", "dice_weight", "ce_weight", "gradient_clip"), torch.finfo(torch.float32).max
    ),
    "seed": 2**63 - 1,
}
"""What PyTorch can compute with, and counts beyond which lies nothing but a slip; ``LARGEST_NUMBER`` for the others."""
OPTIMIZERS = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}


@dataclass(frozen=True)
class Recipe:
    """What a plan's ``training`` block says. All keys but the last three are mandatory: a plan is complete or it
    is refused.

    A seed fixes the weights at the start and the random numbers of each augmentation process. With several of these
    processes (``nnUNet_n_proc_DA`` above 1) the order in which their batches arrive is not fixed, and CUDA's sums
    differ from run to run; so only with 0 or 1 of them, on the CPU, are two trainings equal. Nor is an interrupted and
    continued training equal to an uninterrupted one: each part draws samples of its own. Prediction is not seeded.

    Attributes:
        num_epochs: length of the training.
        iterations_per_epoch: a number, or "one_pass": as many samples as there are training slices, drawn by nnU-Net's
            sampler (with replacement; a third of them around foreground by default).
        val_iterations_per_epoch: likewise for the online validation.
        slices: "all", or "lesion" to centre every sample on foreground and count only slices that contain it; from a
            case without any foreground nnU-Net's sampler still draws any slice.
        optimizer: a key of ``OPTIMIZERS``; ``optimizer_kwargs`` go to it as they are.
        initial_lr: learning rate of the first epoch.
        weight_decay: as the optimiser defines it.
        weight_decay_on: "all" parameters, or "matrices": no biases, norms, single numbers and tables of
            relative positions.
        lr_schedule: "plateau" (cut when the training Dice stops improving), "poly" (nnU-Net's) or "constant".
        lr_schedule_kwargs: of ``ReduceLROnPlateau``; empty for the others.
        dice_weight: factor of nnU-Net's Dice loss.
        ce_weight: factor of nnU-Net's cross-entropy.
        oversample_foreground: share of samples centred on foreground, 0 to 1.
        augmentation: "nnunet" or "none".
        test_time_mirroring: average predictions over mirrored inputs, as nnU-Net does.
        precision: of the training step on CUDA: "auto" (bf16 where the GPU has it, else fp16), "bf16", "fp16", "fp32".
            nnU-Net's own validation and prediction run in fp16 on CUDA whatever this says. fp16 rounds less: in
            SFMANet's first step its gradient was 0.10 off that of float32, relative to its norm, that of bf16 0.29.
            bf16 needs no scaling of the loss and keeps a quarter less for the backward pass.
        gradient_clip: largest norm of the gradient.
        pretrained: published weights at the start of a fresh training: "imagenet" (fetched once, then cached), a file
            of such weights, or "none".
        seed: of the training's random numbers; None leaves them to chance, as nnU-Net does.
        activation_checkpointing: keep only what lies between stages for the backward pass and compute the rest again:
            less memory, more time, the same gradients. The network is then not compiled.
        accelerate: compute with the fast units of :mod:`nnunet_sfma.networks.accelerate`, in training and prediction;
            false keeps the plain ones, for whoever wraps, prunes or hooks their layers.
    """

    num_epochs: int
    iterations_per_epoch: int | Literal["one_pass"]
    val_iterations_per_epoch: int | Literal["one_pass"]
    slices: Literal["all", "lesion"]
    optimizer: Literal["Adam", "AdamW", "SGD"]
    optimizer_kwargs: dict
    initial_lr: float
    weight_decay: float
    weight_decay_on: Literal["all", "matrices"]
    lr_schedule: Literal["plateau", "poly", "constant"]
    lr_schedule_kwargs: dict
    dice_weight: float
    ce_weight: float
    oversample_foreground: float
    augmentation: Literal["nnunet", "none"]
    test_time_mirroring: bool
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    gradient_clip: float
    pretrained: str
    seed: int | None = None
    activation_checkpointing: bool = False
    accelerate: bool = True

    @classmethod
    def from_plan(cls, training: dict) -> "Recipe":
        """Check a ``training`` block and make it a recipe.

        Raises:
            ValueError: if a key is missing, unknown or has a value it cannot take; the sentence names it.
        """
        if not isinstance(training, dict):
            raise ValueError(f"the training block must be an object, got {shortened(repr(training))}")
        known = [field.name for field in fields(cls)]
        for key in training:
            if key not in known:
                raise ValueError(f"the training block has an unknown key '{shortened(key)}'{nearest(key, known)}")
        missing = [field.name for field in fields(cls) if field.default is MISSING and field.name not in training]
        if missing:
            raise ValueError(f"the training block lacks {', '.join(missing)}")
        for field in fields(cls):
            _check(field.name, training.get(field.name, field.default), field.type)
        if training["dice_weight"] == training["ce_weight"] == 0:
            raise ValueError("training.dice_weight and training.ce_weight are both 0: there is nothing to learn from")
        if training["pretrained"] not in ("imagenet", "none") and not is_weights_file(training["pretrained"]):
            raise ValueError(
                f"training.pretrained must be imagenet, none or a file that ends in {', '.join(WEIGHTS_SUFFIXES)}, "
                f"got {shortened(repr(training['pretrained']))}"
            )
        optimizer, schedule = training["optimizer"], training["lr_schedule"]
        check_keywords("optimizer_kwargs", training["optimizer_kwargs"], optimizer, OPTIMIZERS[optimizer])
        plateau = ReduceLROnPlateau if schedule == "plateau" else None
        check_keywords("lr_schedule_kwargs", training["lr_schedule_kwargs"], schedule, plateau)
        return cls(**training)

    @property
    def foreground_share(self) -> float:
        """Share of samples that nnU-Net's sampler centres on foreground: all of them where only lesion slices count."""
        return 1.0 if self.slices == "lesion" else self.oversample_foreground

    def iterations(self, setting: int | str, slices: int, batch_size: int) -> int:
        """Iterations of one epoch: the number that is set, or ceil(slices / batch_size), at least 1."""
        return max(1, math.ceil(slices / batch_size)) if setting == "one_pass" else setting

    def build_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimiser over all parameters of the network.

        Args:
            network: bare, without the wrappers that change its parameters' names; which tables of relative positions
                and single numbers it has its ``no_weight_decay`` says, as in timm.
        """
        parameters = network.parameters()
        if self.weight_decay_on == "matrices":
            tables = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
            parameters = timm.optim.param_groups_weight_decay(network, self.weight_decay, tables)
        return OPTIMIZERS[self.optimizer](
            parameters, lr=self.initial_lr, weight_decay=self.weight_decay, **self.optimizer_kwargs
        )

    def build_schedule(self, optimizer: torch.optim.Optimizer, training_dice: Callable[[], list[float]]) -> "Schedule":
        """The schedule, an object whose ``step(epoch)`` nnU-Net calls at the start of each epoch.

        Args:
            optimizer: whose learning rate is set.
            training_dice: returns the training Dice of the finished epochs.
        """
        if self.lr_schedule == "poly":
            return PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)
        if self.lr_schedule == "plateau":
            return PlateauOnTrainingDice(optimizer, self.initial_lr, training_dice, self.lr_schedule_kwargs)
        return ConstantLearningRate()

    def autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        """What the training step is autocast to on this device; None is full precision, always so without CUDA."""
        if device.type != "cuda" or self.precision == "fp32":
            return None
        if self.precision == "auto":
            return torch.bfloat16 if has_bf16(device) else torch.float16
        return torch.bfloat16 if self.precision == "bf16" else torch.float16


def is_weights_file(pretrained: str) -> bool:
    """Whether the setting ``training.pretrained`` names a file."""
    return pretrained.endswith(WEIGHTS_SUFFIXES)


def has_bf16(device: torch.device) -> bool:
    """Whether a CUDA device computes in bfloat16 itself; PyTorch's own question also counts slow emulation."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8


class PlateauOnTrainingDice:
    """Cuts the learning rate when the training Dice stops improving.

    The rate is computed anew from all logged Dice values at each step. nnU-Net's checkpoints keep the log and nothing
    of a scheduler, so a resumed run cannot disagree with an uninterrupted one.

    Args:
        optimizer: whose learning rate is set.
        initial_lr: rate of the first epoch.
        training_dice: returns the training Dice of the finished epochs.
        kwargs: of ``torch.optim.lr_scheduler.ReduceLROnPlateau``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        initial_lr: float,
        training_dice: Callable[[], list[float]],
        kwargs: dict,
    ):
        self.optimizer = optimizer
        self.initial_lr = initial_lr
        self.training_dice = training_dice
        self.kwargs = kwargs

    def step(self, epoch: int) -> None:
        """Set the learning rate of ``epoch`` from the Dice of the epochs before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.initial_lr
        plateau = ReduceLROnPlateau(self.optimizer, mode="max", **self.kwargs)
        for dice in self.training_dice()[:epoch]:
            plateau.step(dice)


class ConstantLearningRate:
    """The learning rate stays what it is."""

    def step(self, epoch: int) -> None:
        """Nothing to do."""


Schedule = PolyLRScheduler | PlateauOnTrainingDice | ConstantLearningRate


def _check(name: str, value: Any, annotation: Any) -> None:
    """Refuse a value that its annotation does not allow; a bool is no number here, a whole number is a float."""
    options = [option for part in (get_args(annotation) or (annotation,)) for option in (get_args(part) or (part,))]
    types = tuple(option for option in options if isinstance(option, type))
    allowed_types = (*types, int) if float in types else types
    if isinstance(value, bool) and bool not in types:
        allowed_types = ()
    if value not in [o for o in options if isinstance(o, str)] and not isinstance(value, allowed_types):
        wanted = " or ".join(TYPE_NAMES.get(option, f"'{option}'") for option in options)
        raise ValueError(f"training.{name} must be {wanted}, got {shortened(repr(value))}")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not _in_range(name, value):
        raise ValueError(f"training.{name} is out of range: {shortened(repr(value))}")


def _in_range(name: str, value: float) -> bool:
    if not 0 <= value <= LARGEST.get(name, LARGEST_NUMBER):  # NaN is not, either
        return False
    return value > 0 or name in ("weight_decay", "dice_weight", "ce_weight", "seed", "oversample_foreground")
