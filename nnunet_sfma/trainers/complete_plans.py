"""Makes the plans that a trainer receives complete, so that the model saved from them rebuilds itself."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import check_content
from nnunet_sfma.networks.accelerate import accelerate, has_checkpointing
from nnunet_sfma.nnunet_files import ADVICE, CONFIGURATION
from nnunet_sfma.presets import load_preset, preset_names
from nnunet_sfma.sentences import shortened
from nnunet_sfma.trainers.listed_networks import check_architecture
from nnunet_sfma.trainers.recipe import Recipe

NNUNETS_OWN_NETWORKS = "dynamic_network_architectures."
OF_OURS = ("architecture", "training")
TRAINED_WITH = {
    "type": "object",
    "required": ["patch_size", "batch_size", "spacing"],
    "properties": {
        **{key: value for key, value in CONFIGURATION["properties"].items() if key not in OF_OURS},
        "architecture": {"type": "object"},
    },
}
TIMES_TO_READ, SECONDS_TO_WRITE = 5, 0.3


class MissingLibraryError(UserError):
    """A network needs a library that is not installed; the sentence says which."""


def complete_plans(plans: dict, configuration: str, preset_name: str, model_folder: Path) -> dict:
    """Return a copy of ``plans`` in which ``configuration`` names a network and a recipe of ours.

    nnU-Net's own plans name neither. They get both from the plans already saved in the model's folder, so that all
    folds of a model and a resumed fold agree even if a preset has changed since; else from the preset. A preset
    without a network leaves them theirs. Patch, batch and spacing stay the plan's.

    A trainer trains the networks of all presets that name it.

    Args:
        plans: as nnU-Net read them.
        configuration: for instance "2d".
        preset_name: the trainer's default preset.
        model_folder: ``nnUNet_results/DatasetXXX_Name/Trainer__Plans__Configuration``.

    Raises:
        UserError: if the configuration is missing, not 2D or a cascade, or if it names a network that this preset's
            trainer does not train.
    """
    plans = deepcopy(plans)
    if configuration not in plans["configurations"]:
        known = ", ".join(plans["configurations"])
        raise UserError(
            f"The plans '{plans['plans_name']}' have no configuration '{configuration}' (they have {known})."
        )
    try:
        resolved = PlansManager(plans).get_configuration(configuration).configuration
    # nnU-Net takes a configuration without an architecture for one of its older releases
    except (KeyError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"The plans '{plans['plans_name']}', configuration '{configuration}', are incomplete: make them again."
        ) from error
    source, within = f"The plans file '{plans['plans_name']}'", f"configurations.{configuration}"
    check_content(resolved, TRAINED_WITH, source=source, within=within, advice=ADVICE)
    _refuse_what_is_not_2d(resolved, configuration)
    preset = load_preset(preset_name)
    if "training" not in resolved:
        _refuse_unknown_network(resolved, plans["plans_name"], preset.trainer)
        saved = _saved_blocks(model_folder, configuration)
        architecture, training = saved or (preset.architecture or resolved["architecture"], preset.training)
        architecture = fit_to_patch(architecture, resolved["patch_size"])
        plans["configurations"][configuration]["architecture"] = architecture
        plans["configurations"][configuration]["training"] = deepcopy(training)
        source = f"{model_folder / 'plans.json'}, as for its other folds" if saved else f"the preset '{preset.name}'"
        missing = (
            "recipe of ours: it comes" if preset.architecture is None else "network of ours: network and recipe come"
        )
        print(f"The plans '{plans['plans_name']}' name no {missing} from {source}.")
    elif not _trains(preset.trainer, _network(resolved)):
        raise UserError(
            f"The plans '{plans['plans_name']}' describe {_network(resolved).split('.')[-1]}, which {preset.trainer} "
            f"does not train: choose the trainer of those plans with -tr, or plans of this trainer with -p."
        )
    return plans


def refuse_network_of_another_trainer(plans: dict, configuration: str, trainer: str) -> None:
    """Keep a trainer that is named after one size of a network from training another under that name.

    Args:
        plans: complete.
        configuration: for instance "2d".
        trainer: name of its class; one that no preset names, such as nnUNetTrainerDANIE, trains all sizes.

    Raises:
        UserError: if only presets of another trainer have this network with these widths.
    """
    presets = [load_preset(name) for name in preset_names()]
    if trainer not in {preset.trainer for preset in presets}:
        return
    size = _size(PlansManager(plans).get_configuration(configuration).configuration["architecture"])
    trainers = {preset.trainer for preset in presets if preset.architecture and _size(preset.architecture) == size}
    if trainers and trainer not in trainers:
        network, widths = size
        raise UserError(
            f"The plans '{plans['plans_name']}' describe {network.split('.')[-1]} with the widths {widths} of "
            f"{' and '.join(sorted(trainers))}, not of {trainer}: choose that trainer with -tr, or other plans with -p."
        )


def _size(architecture: dict) -> tuple[str, list[int] | None]:
    return architecture["network_class_name"], architecture["arch_kwargs"].get("features_per_stage")


def read_recipe(plans: dict, configuration: str) -> Recipe:
    """The recipe of a complete plan.

    Raises:
        UserError: if the ``training`` block is not valid.
    """
    try:
        return Recipe.from_plan(PlansManager(plans).get_configuration(configuration).configuration["training"])
    except ValueError as error:
        raise UserError(f"The plans '{plans['plans_name']}', configuration '{configuration}': {error}.") from error


def build_network(architecture: dict, num_input_channels: int, num_output_channels: int) -> nn.Module:
    """The network that an ``architecture`` block names, by nnU-Net's own factory.

    Raises:
        MissingLibraryError: if it is built by a library that is not installed.
        UserError: if the network is not one of those that :mod:`nnunet_sfma.trainers.listed_networks` lists, or
            refuses its arguments.
    """
    try:
        check_architecture(architecture)
        return get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            num_input_channels,
            num_output_channels,
            deep_supervision=None,
        )
    except KeyError as error:
        raise UserError(f"The plan's architecture block lacks {error}: make the plan again.") from error
    except ModuleNotFoundError as error:
        raise MissingLibraryError(f"{error}.") from error
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        ImportError,
        IndexError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        name = str(architecture["network_class_name"]).split(".")[-1]
        raise UserError(
            f"The plan's architecture block does not fit {shortened(name)}: {shortened(str(error), 400)}."
        ) from error


def fit_to_patch(architecture: dict, patch_size: Sequence[int]) -> dict:
    """A copy of an ``architecture`` block for this patch: a network that belongs to one ``image_size`` gets it."""
    fitted = deepcopy(architecture)
    if "image_size" in fitted.get("arch_kwargs", {}):
        fitted["arch_kwargs"]["image_size"] = list(patch_size)
    return fitted


def check_network(plans: dict, configuration: str) -> nn.Module:
    """Refuse an architecture block that cannot be built or is for another patch, before anything is written.

    The network is built without memory, with one channel and one class: what a plan can get wrong does not depend on
    them.

    Raises:
        UserError: if the network refuses its arguments or belongs to another patch.
    """
    resolved = PlansManager(plans).get_configuration(configuration).configuration
    architecture, patch_size = resolved["architecture"], list(resolved["patch_size"])
    if fit_to_patch(architecture, patch_size) != architecture:
        raise UserError(
            f"The plans '{plans['plans_name']}' have a patch of {patch_size} and a network for "
            f"{architecture['arch_kwargs']['image_size']}: make them again with nnunet-sfma plan --set patch_size=..."
        )
    with torch.device("meta"):
        network = build_network(architecture, 1, 1)
    if is_nnunets_unet(network):
        _refuse_patch_that_does_not_divide(network.encoder.strides, patch_size)
    return network


def check_checkpointing(network: nn.Module, recipe: Recipe) -> None:
    """Refuse activation checkpointing where no unit of the network can have it.

    Args:
        network: without memory, as :func:`check_network` builds it; its units are made fast ones.
        recipe: of the training.

    Raises:
        UserError: if the recipe asks for it all the same.
    """
    if not recipe.activation_checkpointing:
        return
    if not recipe.accelerate:
        raise UserError(
            "training.activation_checkpointing is true in the plan and training.accelerate is false, but only fast "
            "units compute their activations again: leave out one of the two keys."
        )
    if not has_checkpointing(accelerate(network)):
        raise UserError(
            f"training.activation_checkpointing is true in the plan, but {type(network).__name__} has none: leave the "
            f"key out."
        )


def is_nnunets_own(architecture: dict) -> bool:
    """Whether an ``architecture`` block names a network of nnU-Net's own."""
    return _network({"architecture": architecture}).startswith(NNUNETS_OWN_NETWORKS)


def is_nnunets_unet(network: nn.Module) -> bool:
    """Whether a network is a plain or residual U-Net of nnU-Net's own."""
    return isinstance(getattr(network, "decoder", None), UNetDecoder)


def _refuse_what_is_not_2d(resolved: dict, configuration: str) -> None:
    if resolved.get("previous_stage") or resolved.get("next_stage"):
        raise UserError(f"'{configuration}' is part of a cascade, but this network is 2D: use the configuration 2d.")
    if len(resolved["patch_size"]) != 2:
        raise UserError(f"'{configuration}' is a 3D configuration, but this network is 2D: use the configuration 2d.")


def _refuse_patch_that_does_not_divide(strides: Sequence[Sequence[int]], patch_size: list[int]) -> None:
    """nnU-Net's networks pad nothing, and their norms need more than one position in the deepest stage."""
    divisors = [math.prod(of_axis) for of_axis in zip(*strides, strict=True)]
    if (
        0 in divisors
        or patch_size == divisors
        or any(side % divisor for side, divisor in zip(patch_size, divisors, strict=True))
    ):
        raise UserError(
            f"nnU-Net's own network of these plans takes patches whose sides are multiples of {divisors} and more than "
            f"that, got {patch_size}: choose others with --set patch_size=[H,W]."
        )


def _refuse_unknown_network(resolved: dict, plans_name: str, trainer: str) -> None:
    if "architecture" in resolved and not is_nnunets_own(resolved["architecture"]):
        raise UserError(
            f"The plans '{plans_name}' describe another network, {_network(resolved)}, without a training block: "
            f"use its own trainer with -tr, or give {trainer} plans made by nnunet-sfma plan."
        )


def _trains(trainer: str, network: str) -> bool:
    """Whether a preset of this trainer has this network; a preset without one has any of nnU-Net's own."""
    blocks = [preset.architecture for preset in map(load_preset, preset_names()) if preset.trainer == trainer]
    own = is_nnunets_own({"network_class_name": network})
    return any(own if block is None else network == block["network_class_name"] for block in blocks)


def _saved_blocks(model_folder: Path, configuration: str) -> tuple[dict, dict] | None:
    saved = model_folder / "plans.json"
    if not saved.is_file():
        return None
    blocks = _read_saved(saved)["configurations"].get(configuration, {})
    return (blocks["architecture"], blocks["training"]) if "training" in blocks else None


def _read_saved(path: Path) -> dict:
    """The plans of a model; another fold of it, which starts at the same time, may be writing them."""
    for _ in range(TIMES_TO_READ):
        with suppress(ValueError):
            return load_json(str(path))
        time.sleep(SECONDS_TO_WRITE)
    raise UserError(f"{path} is damaged: restore it, or remove it before you train again.")


def _network(resolved: dict) -> str:
    return resolved["architecture"].get("network_class_name", "no network")
