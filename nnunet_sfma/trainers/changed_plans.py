"""Plans that were changed since a fold was trained: what differs, and what of it a training can go on with."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma import made_by
from nnunet_sfma.errors import UserError
from nnunet_sfma.made_for import INTENSITIES
from nnunet_sfma.sentences import first_few, shortened
from nnunet_sfma.trainers.listed_networks import argument_defaults
from nnunet_sfma.trainers.recipe import Recipe

Changes = dict[str, tuple]

DEFAULTS = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}
OF_ALL_CONFIGURATIONS = ("transpose_forward", "transpose_backward", "image_reader_writer")
# what says nothing of a training: names of folders and of another configuration, and the sizes that were met
UNIMPORTANT = ("data_identifier", "inherits_from", "median_image_size_in_voxels")
CONTINUABLE = ("batch_size", "batch_dice", "patch_size", "training")
OF_A_PREDICTION = (
    "architecture",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "transpose_forward",
    "transpose_backward",
    *INTENSITIES,
    "labels",
    "regions_class_order",
    "channel_names",
)
"""What weights depend on that predict: the network, and images as it saw them."""
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
    pairs = {key: (old.get(key), new.get(key)) for key in sorted({*old, *new})}
    return {key: pair for key, pair in pairs.items() if not _are_equal(*pair)}


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


def refuse_weights_of_other_plans(checkpoint: dict, plans: dict, dataset_json: dict, path: Path) -> None:
    """Refuse to predict with weights that were trained on images prepared otherwise, or in another network.

    A model's folder has one plans.json, that of the fold that was started last. What is edited in it for the sake of
    predictions alone, such as how they are resampled, is no matter.

    Args:
        checkpoint: of a fold.
        plans, dataset_json: of the model's folder.
        path: of the checkpoint.

    Raises:
        UserError: if network, spacing, normalisation, axes, labels or channels differ; the sentence names the keys.
    """
    then = checkpoint["init_args"]
    changes = changes_between(then["plans"], plans, then["configuration"])
    changes |= label_changes(then["dataset_json"], dataset_json)
    refused = {key: values for key, values in changes.items() if _within(key, OF_A_PREDICTION)}
    if refused:
        raise UserError(
            f"{path} was trained with other plans than the model's folder holds ({describe(refused)}): leave that fold "
            "out, or restore the plans.json and dataset.json that it was trained with."
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
    intensities = INTENSITIES if "CTNormalization" in settings.get("normalization_schemes", ()) else ()
    settings |= {key: plans.get(key) for key in (*OF_ALL_CONFIGURATIONS, *intensities)}
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


def _are_equal(old: object, new: object) -> bool:
    """Whether two values are; one NaN, such as the intensity of a channel without foreground, is like another."""
    return old == new or (old != old and new != new)


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
