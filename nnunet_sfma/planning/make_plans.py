"""``nnunet-sfma plan``: a preset and nnU-Net's own plan make a new plans file beside it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_sfma.errors import UserError
from nnunet_sfma.nnunet_folders import dataset_name, nnunet_folder
from nnunet_sfma.presets import Preset, load_preset, merge, nearest

if TYPE_CHECKING:
    from torch import nn

CONFIGURATION = "2d"
PREPROCESSING_KEYS = ("spacing", "normalization_schemes")
FITTED_KEYS = ("image_size",)
CONFIGURATION_KEYS = ("batch_size", "patch_size", "batch_dice", *PREPROCESSING_KEYS)


@dataclass(frozen=True)
class PlansFile:
    """What was written: the file, its plans name, and whether nnU-Net has to preprocess for it."""

    path: Path
    name: str
    trainer: str
    needs_preprocessing: bool
    padding: str | None


def make_plans(
    dataset: int | str,
    preset_name: str,
    settings: list[str],
    base: str = "nnUNetPlans",
    name: str | None = None,
    overwrite: bool = False,
) -> PlansFile:
    """Write ``nnUNet_preprocessed/DatasetXXX_Name/<name>.json``.

    Preprocessed data is shared with nnU-Net's own plan unless spacing or normalisation differ.

    Args:
        dataset: id or name of a planned dataset.
        preset_name: see :func:`nnunet_sfma.presets.preset_names`.
        settings: ``KEY=VALUE`` with a key such as ``training.num_epochs``, ``architecture.features_per_stage`` or
            ``batch_size`` and a JSON value.
        base: name of nnU-Net's own plans.
        name: of the new plans; the preset's name if None.
        overwrite: replace plans of that name.

    Raises:
        UserError: if something is missing, unknown, or does not fit together; nothing is written then.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_sfma.trainers.complete_plans import check_network, fit_to_patch, read_recipe
    from nnunet_sfma.trainers.pretrained import check_pretrained

    preset = load_preset(preset_name)
    name = name or preset.name
    folder = nnunet_folder("nnUNet_preprocessed") / dataset_name(dataset)
    _check_name(name, base)
    plans = _read_base(folder, base)
    block = _apply(preset, _changes(settings, preset))
    changes = block["configuration"]
    original = PlansManager(plans).get_configuration(CONFIGURATION).configuration
    original.pop("inherits_from", None)
    needs_preprocessing = any(changes.get(key, original[key]) != original[key] for key in PREPROCESSING_KEYS)
    configuration = {**original, **changes, "training": _with_absolute_path(block["training"])}
    if needs_preprocessing:
        configuration["data_identifier"] = f"{name}_{CONFIGURATION}"
    plans = {**plans, "plans_name": name, "configurations": {CONFIGURATION: configuration}}
    _check_configuration(configuration, original)
    configuration["architecture"] = fit_to_patch(block["architecture"], configuration["patch_size"])
    recipe = read_recipe(plans, CONFIGURATION)
    network = check_network(plans, CONFIGURATION)
    check_pretrained(network, recipe.pretrained)
    path = folder / f"{name}.json"
    _write(path, plans, overwrite)
    return PlansFile(path, name, preset.trainer, needs_preprocessing, _padding(network, configuration["patch_size"]))


def _check_name(name: str, base: str) -> None:
    if "__" in name or name in (base, "") or Path(name).name != name:
        raise UserError(f"'{name}' cannot name these plans: use no slash, no '__', and not the name of the base plans.")


def _read_base(folder: Path, base: str) -> dict:
    path = folder / f"{base}.json"
    if not path.is_file():
        raise UserError(
            f"{path} does not exist: run nnUNetv2_plan_and_preprocess -d {folder.name[7:10]} -c 2d first, "
            f"or name other plans with -p."
        )
    plans = json.loads(path.read_text())
    if CONFIGURATION not in plans["configurations"]:
        raise UserError(f"{path} has no 2d configuration: plan the dataset again with nnU-Net, including -c 2d.")
    return plans


def _changes(settings: list[str], preset: Preset) -> dict:
    """``KEY=VALUE`` strings as nested changes; unknown keys are refused with the nearest ones."""
    known = [
        *(f"training.{key}" for key in preset.training),
        *(f"architecture.{key}" for key in preset.architecture["arch_kwargs"] if key not in FITTED_KEYS),
        *CONFIGURATION_KEYS,
    ]
    changes: dict[str, Any] = {"training": {}, "architecture": {"arch_kwargs": {}}, "configuration": {}}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise UserError(f"--set {setting}: write KEY=VALUE, for instance training.num_epochs=100.")
        if key not in known:
            raise UserError(f"--set {setting}: there is no key '{key}'{nearest(key, known)}.")
        block, _, leaf = key.rpartition(".")
        place = changes["architecture"]["arch_kwargs"] if block == "architecture" else changes[block or "configuration"]
        place[leaf] = _value(text)
        example = preset.architecture["arch_kwargs"].get(leaf)
        if block == "architecture" and type(example) in (bool, int) and type(place[leaf]) is not type(example):
            raise UserError(f"--set {setting}: {key} is like {json.dumps(example)}.")
    return changes


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _apply(preset: Preset, changes: dict) -> dict:
    blocks = {
        "architecture": preset.architecture,
        "training": preset.training,
        "configuration": preset.configuration,
    }
    # keyword arguments belong to one optimiser or schedule: another one starts without
    for key in ("optimizer", "lr_schedule"):
        if changes["training"].get(key, preset.training[key]) != preset.training[key]:
            changes["training"].setdefault(f"{key}_kwargs", {})
    return merge(blocks, changes)


def _check_configuration(configuration: dict, original: dict) -> None:
    batch, patch = configuration["batch_size"], configuration["patch_size"]
    for key in ("batch_dice", *PREPROCESSING_KEYS):
        if not _alike(configuration[key], original[key]):
            raise UserError(f"{key} must look like {json.dumps(original[key])}, got {configuration[key]!r}.")
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise UserError(f"batch_size must be a whole number from 1 on, got {batch!r}.")
    sides = patch if isinstance(patch, list) else []
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 16 for side in sides):
        raise UserError(f"patch_size must be two whole numbers of at least 16, such as [256,256], got {patch!r}.")


def _alike(value: Any, example: Any) -> bool:
    """Whether a value has the type of an example: true or false, a number, text, or a list of as many such entries."""
    if isinstance(example, list):
        return isinstance(value, list) and len(value) == len(example) and all(map(_alike, value, example))
    number = isinstance(example, (int, float)) and not isinstance(example, bool)
    return type(value) in (int, float) if number else type(value) is type(example)


def _padding(network: "nn.Module", patch: list[int]) -> str | None:
    padded = list(network.padded_size(patch))
    if padded == patch:
        return None
    return f"{patch[0]} x {patch[1]} is padded to {padded[0]} x {padded[1]} inside the network"


def _with_absolute_path(training: dict) -> dict:
    """The training may start in another folder than the one in which its pretrained weights were named."""
    from nnunet_sfma.trainers.recipe import is_weights_file

    pretrained = training["pretrained"]
    if not isinstance(pretrained, str) or not is_weights_file(pretrained):
        return training
    return {**training, "pretrained": str(Path(os.path.expanduser(pretrained)).absolute())}


def _write(path: Path, plans: dict, overwrite: bool) -> None:
    text = json.dumps(plans, indent=4) + "\n"
    if path.is_file() and path.read_text() != text and not overwrite:
        raise UserError(f"{path} exists and differs: choose another --name, or --overwrite it.")
    partial = path.with_suffix(".json.partial")
    try:
        partial.write_text(text)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"Could not write {path}: {error.strerror}.") from error
