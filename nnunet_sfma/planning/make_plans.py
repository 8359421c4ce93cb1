"""``nnunet-sfma plan``: a preset and nnU-Net's own plan make a new plans file beside it."""

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_sfma import made_by
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.made_for import note_before_replacing
from nnunet_sfma.nnunet_files import read_plans
from nnunet_sfma.nnunet_folders import dataset_id, dataset_name, nnunet_folder
from nnunet_sfma.planning.checks import PREPROCESSING_KEYS, check_configuration, check_name, refuse_not_finite
from nnunet_sfma.planning.cropping import describe_crop
from nnunet_sfma.planning.own_plans import CONFIGURATION, read_described, read_own_plans, resolved
from nnunet_sfma.presets import Preset, load_preset, merge, nearest
from nnunet_sfma.sentences import shortened

if TYPE_CHECKING:
    from torch import nn

    from nnunet_sfma.planning.memory import MemoryEstimate

FITTED_KEYS = ("image_size",)
CONFIGURATION_KEYS = ("batch_size", "patch_size", "batch_dice", *PREPROCESSING_KEYS)


@dataclass(frozen=True)
class PlansFile:
    """What was written.

    Attributes:
        path: the file.
        name: its plans name.
        trainer: the one that trains with it.
        preprocess_because: why nnU-Net has to preprocess for it; None if it shares the data of nnU-Net's own plan.
        replaced: whether other plans of that name were replaced.
        notes: sentences on what the user may not expect, and the estimated memory.
    """

    path: Path
    name: str
    trainer: str
    preprocess_because: str | None
    replaced: bool
    notes: tuple[str, ...]


def make_plans(
    dataset: int | str,
    preset_name: str,
    settings: list[str],
    base: str = "nnUNetPlans",
    name: str | None = None,
    overwrite: bool = False,
    slice_axis: str | None = None,
    gpu_memory: float | None = None,
    ablation: str | None = None,
) -> PlansFile:
    """Write ``nnUNet_preprocessed/DatasetXXX_Name/<name>.json``.

    Preprocessed data is shared with nnU-Net's own plan unless spacing, normalisation or slice axis differ. A preset
    without a network keeps that of nnU-Net's own plan.

    Args:
        dataset: id or name of a planned dataset.
        preset_name: see :func:`nnunet_sfma.presets.preset_names`.
        settings: ``KEY=VALUE`` with a key such as ``training.num_epochs``, ``architecture.features_per_stage`` or
            ``batch_size`` and a JSON value.
        base: name of nnU-Net's own plans.
        name: of the new plans; if None the preset's, followed by "-" and the ablation or slice axis, as far as given.
        overwrite: replace plans of that name.
        slice_axis: "x", "y" or "z" of the image file; nnU-Net's choice if None.
        gpu_memory: in units of 2**30 bytes; the batch size is what fits, see
            :func:`nnunet_sfma.planning.memory.choose_batch`. The preset's, a setting's or nnU-Net's if None.
        ablation: a row of the paper's ablation, see :func:`nnunet_sfma.presets.ablations`; the preset's recipe stays.

    Raises:
        UserError: if something is missing, unknown, or does not fit together; nothing is written then.
    """
    from nnunet_sfma.departures import counted, departures_of
    from nnunet_sfma.planning.memory import describe, estimate_memory
    from nnunet_sfma.planning.slice_axis import plan_along
    from nnunet_sfma.trained_models import left_behind
    from nnunet_sfma.trainers.complete_plans import check_checkpointing, check_network, fit_to_patch, read_recipe
    from nnunet_sfma.trainers.pretrained import check_pretrained

    preset = load_preset(preset_name, ablation)
    if name is None:
        name = "-".join(part for part in (preset.name, ablation, slice_axis) if part)
    folder = nnunet_folder("nnUNet_preprocessed") / dataset_name(dataset)
    check_name(name, base)
    own = read_own_plans(folder, base)
    _check_gpu_memory(gpu_memory, settings)
    plans = plan_along(slice_axis, own, folder) if slice_axis else own
    original = resolved(plans)
    if preset.architecture is None:
        preset = replace(preset, architecture=_own_architecture(original, base))
    block = _apply(preset, _changes(settings, preset))
    configuration = {**original, **block["configuration"], "training": _with_absolute_path(block["training"])}
    if any(configuration[key] != original[key] for key in PREPROCESSING_KEYS):
        configuration["data_identifier"] = f"{name}_{CONFIGURATION}"
    plans = {**plans, "plans_name": name, "configurations": {CONFIGURATION: configuration}}
    check_configuration(configuration, original)
    configuration["architecture"] = fit_to_patch(block["architecture"], configuration["patch_size"])
    recipe = read_recipe(plans, CONFIGURATION)
    network = check_network(plans, CONFIGURATION)
    check_checkpointing(network, recipe)
    refuse_not_finite(configuration["architecture"], settings)
    check_pretrained(network, recipe.pretrained)
    dataset_json = read_described(folder)
    try:
        estimate = estimate_memory(plans, CONFIGURATION, dataset_json)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"The network cannot compute a patch ({error}): change what --set architecture says."
        ) from error
    preprocess_because = _why_preprocess(plans, own)
    notes = [*_padding(network, configuration["patch_size"]), *describe_crop(configuration, original)]
    if slice_axis and not preprocess_because:
        notes.append(f"nnU-Net slices this data set along {slice_axis} by itself: its preprocessed data is shared.")
    if gpu_memory is not None:
        notes += _size_batch(plans, dataset_json, estimate, gpu_memory)
    notes.append(describe(estimate, configuration["batch_size"], configuration["patch_size"]))
    departures = departures_of(configuration["architecture"], configuration["training"], configuration)
    listing = "networks --departures" if ablation else f"networks --departures {preset.name}"
    notes.append(f"The model {counted(departures)}: nnunet-sfma {listing} lists them.")
    path = folder / f"{name}.json"
    plans[made_by.KEY] = made_by.plan_command(
        dataset_id(folder.name), preset.name, ablation, settings, base, name, slice_axis, gpu_memory
    )
    replaced = _write(path, plans, overwrite, has_own_data=preprocess_because is not None)
    if replaced:
        remedy = "continue them with nnUNetv2_train --c if only the recipe differs, else move them away and train again"
        notes += left_behind(folder.name, f"the plan {name}", remedy, name)
    return PlansFile(path, name, preset.trainer, preprocess_because, replaced, tuple(notes))


def _own_architecture(original: dict, base: str) -> dict:
    from nnunet_sfma.trainers.complete_plans import is_nnunets_own

    if not is_nnunets_own(original["architecture"]):
        raise UserError(f"The plans '{base}' do not hold a network of nnU-Net's own: name nnU-Net's plans with -p.")
    return original["architecture"]


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
        said = f"--set {shortened(setting)}"
        if not separator:
            raise UserError(f"{said}: write KEY=VALUE, for instance training.num_epochs=100.")
        if key not in known:
            raise UserError(f"{said}: there is no key '{shortened(key)}'{nearest(key, known)}.")
        block, _, leaf = key.rpartition(".")
        place = changes["architecture"]["arch_kwargs"] if block == "architecture" else changes[block or "configuration"]
        place[leaf] = _value(text, said)
        example = preset.architecture["arch_kwargs"].get(leaf)
        if block == "architecture" and type(example) in (bool, int) and type(place[leaf]) is not type(example):
            raise UserError(f"{said}: {key} is like {json.dumps(example)}.")
    return changes


def _value(text: str, said: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
    except (ValueError, RecursionError):
        raise UserError(f"{said}: that is too long a number or nested too deeply.") from None


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


def _check_gpu_memory(gpu_memory: float | None, settings: list[str]) -> None:
    if gpu_memory is None:
        return
    if not 0 < gpu_memory < math.inf:
        raise UserError(f"--gpu-memory is a number of GB above 0, got {gpu_memory}.")
    if any(setting.partition("=")[0] == "batch_size" for setting in settings):
        raise UserError("--gpu-memory chooses the batch size: leave out --set batch_size, or --gpu-memory.")


def _size_batch(plans: dict, dataset: dict, estimate: "MemoryEstimate", gpu_memory: float) -> list[str]:
    """Set the batch size to what fits; a sentence if it is nnU-Net's limit that counts."""
    from nnunet_sfma.planning.memory import GB, choose_batch

    slices = plans["original_median_shape_after_transp"][0] * dataset["numTraining"]
    batch_size = choose_batch(estimate, gpu_memory, slices)
    plans["configurations"][CONFIGURATION]["batch_size"] = batch_size
    fitting = estimate.largest_batch(gpu_memory * GB)
    if fitting == batch_size:
        return []
    return [
        f"nnU-Net's own limit, 5 % of the data set's {slices} slices but at least 2, keeps the batch at {batch_size}; "
        f"{fitting} would fit into {gpu_memory:g} GB."
    ]


def _padding(network: "nn.Module", patch: list[int]) -> list[str]:
    if not hasattr(network, "padded_size"):  # nnU-Net's own, which pad nothing
        return []
    padded = list(network.padded_size(patch))
    if padded == patch:
        return []
    return [f"A patch of {patch[0]} x {patch[1]} is padded to {padded[0]} x {padded[1]} inside the network."]


def _why_preprocess(plans: dict, own: dict) -> str | None:
    from nnunet_sfma.planning.slice_axis import slice_axis_of

    axis, own_axis = slice_axis_of(plans), slice_axis_of(own)
    if axis != own_axis:
        return f"its slices lie along {axis}, those of nnU-Net's own plan along {own_axis}"
    if resolved(plans)["data_identifier"] != resolved(own)["data_identifier"]:
        return "its spacing or normalisation is not that of nnU-Net's own plan"
    return None


def _with_absolute_path(training: dict) -> dict:
    """The training may start in another folder than the one in which its pretrained weights were named."""
    from nnunet_sfma.trainers.recipe import is_weights_file

    pretrained = training["pretrained"]
    if not isinstance(pretrained, str) or not is_weights_file(pretrained):
        return training
    return {**training, "pretrained": str(Path(os.path.expanduser(pretrained)).absolute())}


def _write(path: Path, plans: dict, overwrite: bool, has_own_data: bool) -> bool:
    """Returns whether other plans of that name were replaced."""
    text = json.dumps(plans, indent=4) + "\n"
    replaced = path.exists() and not _holds(path, plans)
    if replaced and not overwrite:
        raise UserError(f"{path} exists and differs: choose another --name, or --overwrite it.")
    if replaced and not _is_of_ours(path):
        raise UserError(f"{path} was not made by nnunet-sfma plan and is not replaced: choose another --name.")
    if replaced and has_own_data:
        note_before_replacing(path, plans, CONFIGURATION)
    replace_text(path, text)
    return replaced


def _holds(path: Path, plans: dict) -> bool:
    """Whether a file holds these plans, whatever made it, though it may leave out what is at its default."""
    from nnunet_sfma.trainers.changed_plans import say_the_same

    try:
        there = read_plans(path)
    except UserError:
        return False
    return say_the_same(there, plans)


def _is_of_ours(path: Path) -> bool:
    """Whether a file holds plans with a recipe, or is damaged; nnU-Net's own plans have none."""
    try:
        return any("training" in block for block in read_plans(path)["configurations"].values())
    except UserError:
        return path.is_file()
