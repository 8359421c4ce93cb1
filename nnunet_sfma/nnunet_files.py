"""nnU-Net's own descriptions: ``dataset.json`` and plans, checked for what this package relies on."""

from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import BARE_NAME, ONE_LINE, STRINGS, check_content, read_json

ADVICE = "restore it, or make it again with nnU-Net"
LABEL = {"type": "integer", "minimum": 0, "maximum": 65535}
NAMES = {"anyOf": [{"type": "object", "additionalProperties": ONE_LINE}, {"type": "array", "items": ONE_LINE}]}
DATASET = {
    "type": "object",
    "required": ["labels", "file_ending"],
    "properties": {
        "labels": {
            "type": "object",
            "propertyNames": ONE_LINE,
            "additionalProperties": {"anyOf": [LABEL, {"type": "array", "items": LABEL, "minItems": 1}]},
        },
        "file_ending": {"type": "string", "pattern": r"^(\.[A-Za-z0-9]{1,10}){1,2}$"},
        "channel_names": NAMES,
        "regions_class_order": {"type": ["array", "null"], "items": LABEL},
        "overwrite_image_reader_writer": {"type": "string"},
    },
    # nnU-Net reads the old key only where the new one is not there
    "if": {"not": {"required": ["channel_names"]}},
    "then": {"properties": {"modality": NAMES}},
}
PLANS = {
    "type": "object",
    "required": ["configurations", "transpose_forward", "dataset_name", "plans_name"],
    "properties": {
        "dataset_name": BARE_NAME,
        "plans_name": BARE_NAME,
        "transpose_forward": {"enum": [[i, j, 3 - i - j] for i in range(3) for j in range(3) if i != j]},
        "configurations": {"type": "object", "additionalProperties": {"type": "object"}},
    },
}
SIZE = {"type": "integer", "minimum": 1, "maximum": 10**5}
CONFIGURATION = {
    "type": "object",
    "required": ["patch_size", "batch_size", "spacing", "normalization_schemes", "architecture"],
    "properties": {
        "patch_size": {"type": "array", "items": SIZE, "minItems": 2, "maxItems": 3},
        "batch_size": SIZE,
        "spacing": {
            "type": "array",
            # "not" refuses NaN, for which every comparison is false
            "items": {"type": "number", "exclusiveMinimum": 0, "maximum": 10**6, "not": {"maximum": 0}},
            "minItems": 2,
            "maxItems": 3,
        },
        "normalization_schemes": STRINGS,
        "data_identifier": BARE_NAME,
        "preprocessor_name": {"type": "string"},
        "batch_dice": {"type": "boolean"},
        "use_mask_for_norm": {"type": "array", "items": {"type": "boolean"}},
        "architecture": {
            "type": "object",
            "required": ["network_class_name", "arch_kwargs"],
            "properties": {
                "network_class_name": {"type": "string", "minLength": 1},
                "arch_kwargs": {"type": "object"},
                "_kw_requires_import": STRINGS,
            },
        },
        "training": {"type": "object"},
    },
}


def read_dataset_json(path: Path) -> dict:
    """Return a data set's ``dataset.json``, as it lies in nnUNet_raw, with models and with predictions.

    Raises:
        UserError: if it is not there or damaged.
    """
    missing = f"There is no {path}: give the folder that nnU-Net wrote, with all that is in it."
    return read_json(path, DATASET, advice=ADVICE, missing=missing)


def read_plans(path: Path) -> dict:
    """Return nnU-Net's plans as they are; every configuration has been resolved and checked.

    Raises:
        UserError: if they are not there or damaged.
    """
    missing = f"There is no {path}: give the folder that nnU-Net wrote, with all that is in it."
    plans = read_json(path, PLANS, advice=ADVICE, missing=missing)
    for name in plans["configurations"]:
        try:
            resolved = PlansManager(plans).get_configuration(name).configuration
        except Exception as error:  # nnU-Net looks up as it goes
            raise UserError(f"{path} is damaged (configurations.{name}: {error!r}): {ADVICE}.") from None
        check_content(resolved, CONFIGURATION, source=str(path), within=f"configurations.{name}", advice=ADVICE)
    return plans


def channel_names(dataset_json: dict) -> list[str]:
    """Return the names of a data set's channels; nnU-Net reads the old key only where the new one is not there."""
    names = dataset_json.get("channel_names", dataset_json.get("modality", {}))
    return [str(name) for name in (names.values() if isinstance(names, dict) else names)]
