"""nnU-Net's plan with slices along an axis of choice; by itself nnU-Net slices along the axis of widest spacing."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import read_json
from nnunet_sfma.nnunet_files import read_dataset_json
from nnunet_sfma.nnunet_folders import nnunet_folder
from nnunet_sfma.planning.own_plans import THREE_SIZES

ARRAY_AXES = {"z": 0, "y": 1, "x": 2}
DEFAULT_PLANS = "nnUNetPlans"
SIZES = {**THREE_SIZES, "minItems": 2}
FINGERPRINT = {
    "type": "object",
    "required": ["spacings", "shapes_after_crop", "foreground_intensity_properties_per_channel"],
    "properties": {
        "spacings": {"type": "array", "minItems": 1, "items": SIZES},
        "shapes_after_crop": {"type": "array", "minItems": 1, "items": SIZES},
        "foreground_intensity_properties_per_channel": {"type": "object"},
    },
}


class SliceAxisPlanner(ExperimentPlanner):
    """nnU-Net's default planner, but slices lie along a given axis and the plan stays in memory.

    Args:
        dataset: full name of the data set.
        axis: "x", "y" or "z" of the image file, whose array is (z, y, x).
    """

    def __init__(self, dataset: str, axis: str):
        # names the preprocessed data, which all plans along this axis share as others share nnU-Net's own
        super().__init__(dataset, plans_name=f"{DEFAULT_PLANS}-{axis}")
        self.axis = axis
        # the search for a lower 3D resolution takes long, and only the 2D configuration is of use here
        self.lowres_creation_threshold = 0.0

    def determine_transpose(self) -> tuple[list[int], list[int]]:
        """The slice axis first, the others in their order; and back."""
        forward = _transpose_forward(self.axis)
        return forward, [forward.index(axis) for axis in range(3)]

    @staticmethod
    def static_estimate_VRAM_usage(  # noqa: N802  the name is nnU-Net's
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict,
        arch_kwargs_req_import: Sequence[str],
    ) -> float:
        """nnU-Net's estimate for its U-Net, by which it chooses the patch, without allocating that network.

        nnU-Net's own sets torch to as many threads as there are augmentation workers, and fails if there are none.
        """
        with torch.device("meta"):
            network = get_network_from_plans(
                arch_class_name, arch_kwargs, arch_kwargs_req_import, input_channels, output_channels, allow_init=False
            )
        return network.compute_conv_feature_map_size(patch_size)

    def save_plans(self, plans: dict) -> None:
        """Make the plans fit for JSON; a file of them would be one to train with."""
        recursive_fix_for_json_export(plans)


def plan_along(axis: str, base: dict, folder: Path) -> dict:
    """nnU-Net's plans with slices along an axis: the base plans if theirs are, else new ones, planned from nnU-Net's
    fingerprint of the data set with patch, spacing and median shape of the new plane. Nothing is written.

    Args:
        axis: "x", "y" or "z" of the image file; z is the first axis of nnU-Net's arrays.
        base: nnU-Net's own plans of the data set.
        folder: ``nnUNet_preprocessed/DatasetXXX_Name``.

    Raises:
        UserError: if the data set is 2D, the base is none of nnU-Net's default plans, or something to plan from is
            missing or has changed.
    """
    shape = base["original_median_shape_after_transp"]
    if 1 in shape:
        raise UserError(f"{folder.name} has single slices ({' x '.join(map(str, shape))}): leave out --slice-axis.")
    if base["transpose_forward"] == _transpose_forward(axis):
        return base
    if base["plans_name"] != DEFAULT_PLANS:
        raise UserError(
            f"--slice-axis {axis} plans with nnU-Net's default planner, so nothing of the plans '{base['plans_name']}' "
            f"would be used: leave out -p."
        )
    _check_sources(folder)
    return _plan(axis, folder)


def slice_axis_of(plans: dict) -> str:
    """The axis, "x", "y" or "z" of the image file, along which plans slice."""
    return next(axis for axis, index in ARRAY_AXES.items() if index == plans["transpose_forward"][0])


def _transpose_forward(axis: str) -> list[int]:
    return [ARRAY_AXES[axis], *(index for index in range(3) if index != ARRAY_AXES[axis])]


def _check_sources(folder: Path) -> None:
    """nnU-Net's planner copies dataset.json to the preprocessed data; that must not change what others train with."""
    dataset_id = folder.name[7:10]
    fingerprint, planned = folder / "dataset_fingerprint.json", folder / "dataset.json"
    raw = nnunet_folder("nnUNet_raw") / folder.name / "dataset.json"
    if not fingerprint.is_file():
        raise UserError(f"{fingerprint} does not exist: run nnUNetv2_extract_fingerprint -d {dataset_id} first.")
    if not raw.is_file():
        raise UserError(f"{raw} does not exist, and another slice axis is planned from raw data: put it back.")
    read_json(fingerprint, FINGERPRINT, advice=f"run nnUNetv2_extract_fingerprint -d {dataset_id} again")
    if read_dataset_json(raw) != read_dataset_json(planned):
        raise UserError(
            f"{raw} has changed since nnU-Net planned: run nnUNetv2_plan_and_preprocess -d {dataset_id} -c 2d again."
        )


def _plan(axis: str, folder: Path) -> dict:
    try:
        with redirect_stdout(io.StringIO()):  # nnU-Net prints its configurations, 3D ones too
            plans = SliceAxisPlanner(folder.name, axis).plan_experiment()
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(
            f"nnU-Net cannot plan {folder.name} with its raw images and splits_final.json as they are: see what "
            f"nnUNetv2_plan_experiment -d {folder.name[7:10]} says."
        ) from error
    return json.loads(json.dumps(plans))  # as they would be read from a file: lists instead of tuples
