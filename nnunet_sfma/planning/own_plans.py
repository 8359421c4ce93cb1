"""nnU-Net's own plan of a data set, from which plans of ours are made."""

from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import check_content
from nnunet_sfma.nnunet_files import ADVICE, read_dataset_json, read_plans

CONFIGURATION = "2d"
THREE_SIZES = {
    "type": "array",
    "minItems": 3,
    "maxItems": 3,
    "items": {"type": "number", "exclusiveMinimum": 0, "maximum": 10**6, "not": {"maximum": 0}},
}
TWO_SIZES = {**THREE_SIZES, "minItems": 2, "maxItems": 2}
WHAT_IS_COPIED = {
    "required": [
        "transpose_backward",
        "original_median_shape_after_transp",
        "original_median_spacing_after_transp",
        "image_reader_writer",
        "foreground_intensity_properties_per_channel",
        "configurations",
    ],
    "properties": {
        "transpose_backward": {"enum": [[i, j, 3 - i - j] for i in range(3) for j in range(3) if i != j]},
        "original_median_shape_after_transp": THREE_SIZES,
        "original_median_spacing_after_transp": THREE_SIZES,
        "image_reader_writer": {"type": "string"},
        "foreground_intensity_properties_per_channel": {"type": "object"},
    },
}
WHAT_IS_PREPROCESSED = {
    "required": [
        "data_identifier",
        "preprocessor_name",
        "batch_dice",
        "use_mask_for_norm",
        "median_image_size_in_voxels",
    ],
    "properties": {
        "patch_size": {"minItems": 2, "maxItems": 2},
        "spacing": {"minItems": 2, "maxItems": 2},
        "median_image_size_in_voxels": TWO_SIZES,
        "normalization_schemes": {"minItems": 1},
    },
}
WHAT_IS_COUNTED = {
    "required": ["numTraining"],
    "properties": {"numTraining": {"type": "integer", "minimum": 1, "maximum": 10**7}},
    "anyOf": [{"required": ["channel_names"]}, {"required": ["modality"]}],
}


def read_own_plans(folder: Path, name: str) -> dict:
    """Return nnU-Net's own plans with all that plans of ours take from them.

    Args:
        folder: ``nnUNet_preprocessed/DatasetXXX_Name``.
        name: of the plans.

    Raises:
        UserError: if they are not there, damaged, or have no configuration 2d.
    """
    path = folder / f"{name}.json"
    for planned in (path, folder / "dataset.json"):
        if not planned.is_file():
            raise UserError(
                f"{planned} does not exist: run nnUNetv2_plan_and_preprocess -d {folder.name[7:10]} -c 2d first, "
                f"or name other plans with -p."
            )
    plans = read_plans(path)
    if CONFIGURATION not in plans["configurations"]:
        raise UserError(f"{path} has no 2d configuration: plan the dataset again with nnU-Net, including -c 2d.")
    check_content(plans, WHAT_IS_COPIED, source=str(path), advice=ADVICE)
    within = f"configurations.{CONFIGURATION}"
    check_content(resolved(plans), WHAT_IS_PREPROCESSED, source=str(path), within=within, advice=ADVICE)
    return plans


def read_described(folder: Path) -> dict:
    """Return the description, ``dataset.json``, of a data set that nnU-Net has planned.

    Raises:
        UserError: if it is not there, damaged, or without channels or the number of training cases.
    """
    path = folder / "dataset.json"
    description = read_dataset_json(path)
    check_content(description, WHAT_IS_COUNTED, source=str(path), advice=ADVICE)
    return description


def resolved(plans: dict) -> dict:
    """Return the 2d configuration, whole: without what it inherits from."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    configuration = PlansManager(plans).get_configuration(CONFIGURATION).configuration
    return {key: value for key, value in configuration.items() if key != "inherits_from"}
