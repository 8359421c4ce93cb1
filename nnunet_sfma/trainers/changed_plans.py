"""Plans that were changed since a fold was trained: what differs, and what of it a training can go on with."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma import made_by
from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import first_few, shortened
from nnunet_sfma.trainers.listed_networks import argument_defaults
from nnunet_sfma.trainers.recipe import Recipe

Changes = dict[str, tuple]

DEFAULTS = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}
OF_ALL_CONFIGURATIONS = ("transpose_forward", "transpose_backward", "image_reader_writer")
# what says nothing of a training: names of folders and of another configuration, and the sizes that were met
UNIMPORTANT = ("data_identifier", "inherits_from", "median_image_size_in_voxels")
CONTINUABLE = ("batch_size", "batch_dice", "patch_size", "training")
NOT_CONTINUABLE = ("training.optimizer", "training.optimizer_kwargs", "training.weight_decay_on")


def changes_between(then: dict, now: dict, configuration: str) -> Changes:
    """Return what differs in a configuration between two plans, as ``{"training.num_epochs": (2, 4)}``.

    Plans of nnU-Net's own, which have no ``training`` block, say nothing of ours: a trainer completes them.

    Args:
        then: that a fold was trained with, complete.
        now: as they lie in nnUNet_preprocessed or as a trainer completed them.
        configuration: for instance "2d".
    """
    old, new = _settings(then, configuration), _settings(now, configuration)
    if "training" in old and "training" not in new:
        for settings in (old, new):
            settings.pop("architecture", None)
            settings.pop("training", None)
    old, new = _flat(old), _flat(new)
    return {key: (old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)}


def say_the_same(plans: dict, others: dict) -> bool:
    """Whether two plans are equal, whatever made them; what one leaves out is at its default."""
    return made_by.are_the_same(_complete(plans), _complete(others))


def label_changes(then: dict, now: dict) -> Changes:
    """Return what differs between two dataset.json in what the network takes and gives; names may change."""
    old, new = _labels(then), _labels(now)
    return {key: (old[key], new[key]) for key in old if old[key] != new[key]}


def refuse_what_cannot_continue(changes: Changes, folder: Path) -> None:
    """Refuse to go on with weights that changed plans do not fit.

    Raises:
        UserError: if network, optimiser, labels or the images' preparation were changed; the sentence names the keys.
    """
    refused = {key: values for key, values in changes.items() if not _can_continue(key)}
    if refused:
        raise UserError(
            f"{folder} cannot be continued with these plans, which differ from those it was trained with "
            f"({describe(refused)}): restore them, or give the new plans another name and train with these."
        )


def describe(changes: Changes) -> str:
    """Return changes as a list for people: ``training.num_epochs: 2 then, 4 now``."""
    return first_few([f"{key}: {_value(old)} then, {_value(new)} now" for key, (old, new) in changes.items()])


def _can_continue(key: str) -> bool:
    return _within(key, CONTINUABLE) and not _within(key, NOT_CONTINUABLE)


def _within(key: str, blocks: tuple[str, ...]) -> bool:
    return any(key == block or key.startswith(f"{block}.") for block in blocks)


def _settings(plans: dict, configuration: str) -> dict:
    if configuration not in plans["configurations"]:
        return {}
    settings = _with_defaults(PlansManager(plans).get_configuration(configuration).configuration)
    settings |= {key: plans.get(key) for key in OF_ALL_CONFIGURATIONS}
    return {key: value for key, value in settings.items() if key not in UNIMPORTANT}


def _complete(plans: dict) -> dict:
    configurations = {name: _with_defaults(block) for name, block in plans["configurations"].items()}
    return {**plans, "configurations": configurations}


def _with_defaults(configuration: dict) -> dict:
    """A configuration with what plans of before did not name yet in the blocks that are of ours."""
    complete = dict(configuration)
    if "training" in complete:
        complete["training"] = {**DEFAULTS, **complete["training"]}
    if "architecture" in complete:
        block = complete["architecture"]
        arguments = {**argument_defaults(block["network_class_name"]), **block["arch_kwargs"]}
        complete["architecture"] = {**block, "arch_kwargs": arguments}
    return complete


def _flat(settings: Mapping, prefix: str = "") -> dict:
    flat = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _labels(dataset_json: dict) -> dict:
    values = list(dataset_json["labels"].values())
    if not any(isinstance(value, (list, tuple)) for value in values):
        values.sort()  # of single labels, unlike regions, the order says nothing
    return {
        "labels": values,
        "regions_class_order": dataset_json.get("regions_class_order"),
        "channel_names": len(dataset_json.get("channel_names") or dataset_json.get("modality") or ()),
    }


def _value(value: object) -> str:
    return "missing" if value is None else shortened(str(value), 40)
