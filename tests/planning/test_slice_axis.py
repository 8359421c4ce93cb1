"""``nnunet-sfma plan --slice-axis``: plans and preprocessed data along another axis than nnU-Net's."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError

THICK_ENOUGH = ["--set", "patch_size=[16,48]"]


def read(workspace, name: str) -> dict:
    return json.loads((workspace.preprocessed / workspace.plain / f"{name}.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def load_case(workspace, plans: str, case: str) -> tuple[np.ndarray, np.ndarray, dict]:
    """Preprocessed image, segmentation, each (C, slices, height, width), and nnU-Net's properties."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    identifier = read(workspace, plans)["configurations"]["2d"]["data_identifier"]
    dataset = nnUNetDatasetBlosc2(str(workspace.preprocessed / workspace.plain / identifier))
    data, segmentation, _, properties = dataset.load_case(case)
    return np.asarray(data), np.asarray(segmentation), properties


def export(workspace, plans: str, segmentation: np.ndarray, properties: dict, file: Path) -> sitk.Image:
    """What nnU-Net writes if it predicts a segmentation of shape (slices, height, width)."""
    from nnunetv2.inference.export_prediction import export_prediction_from_logits
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(read(workspace, plans))
    logits = np.stack([segmentation != 1, segmentation == 1]).astype(np.float32)
    dataset_json = json.loads((workspace.preprocessed / workspace.plain / "dataset.json").read_text())
    export_prediction_from_logits(
        logits, properties, manager.get_configuration("2d"), manager, dataset_json, str(file), num_threads_torch=1
    )
    return sitk.ReadImage(f"{file}.nii.gz")


def grid(image: sitk.Image) -> tuple:
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


@pytest.mark.parametrize("axis, shape", [("x", (1, 32, 5, 40)), ("y", (1, 40, 5, 32))])
def test_slices_lie_along_the_axis_and_predictions_as_the_image(workspace, axis, shape, tmp_path, capsys):
    own_data = workspace.preprocessed / workspace.plain / "nnUNetPlans_2d"
    before = contents(own_data)
    main(["plan", "-d", "1", "--preset", "sfmanet", "-np", "1", "--slice-axis", axis, *THICK_ENOUGH])
    name = f"sfmanet-{axis}"
    assert f"nnUNetv2_preprocess -d 1 -plans_name {name} -c 2d" in capsys.readouterr().out
    data, segmentation, properties = load_case(workspace, name, "case_0")
    assert data.shape == segmentation.shape == shape
    assert contents(own_data) == before
    exported = export(workspace, name, segmentation[0], properties, tmp_path / "case_0")
    label = sitk.ReadImage(str(workspace.raw / workspace.plain / "labelsTr" / "case_0.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(exported), sitk.GetArrayFromImage(label))
    for found, wanted in zip(grid(exported), grid(label), strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    "axis, forward, backward, plane",
    [("x", [2, 0, 1], [1, 2, 0], [20, 40]), ("y", [1, 0, 2], [1, 0, 2], [20, 32])],
)
def test_plan_is_made_for_the_new_plane(workspace, axis, forward, backward, plane, capsys):
    fingerprint = workspace.preprocessed / workspace.plain / "dataset_fingerprint.json"
    shapes = {"shapes_after_crop": [[20, 40, 32]] * 6}
    fingerprint.write_text(json.dumps({**json.loads(fingerprint.read_text()), **shapes}))
    main(["plan", "-d", "1", "--preset", "sfmanet", "-np", "1", "--slice-axis", axis])
    printed = capsys.readouterr().out
    assert f"its slices lie along {axis}, those of nnU-Net's own plan along z" in printed
    assert "U-Net configuration" not in printed
    plans = read(workspace, f"sfmanet-{axis}")
    configuration = plans["configurations"]["2d"]
    assert (plans["transpose_forward"], plans["transpose_backward"]) == (forward, backward)
    assert configuration["median_image_size_in_voxels"] == plane
    assert configuration["patch_size"] == plane
    assert configuration["spacing"] == pytest.approx([4.0, 0.9])
    assert configuration["data_identifier"] == f"nnUNetPlans-{axis}_2d"
    assert list(plans["configurations"]) == ["2d"] and plans["plans_name"] == f"sfmanet-{axis}"


def test_planner_is_nnunets_own_but_for_the_axis(workspace):
    from nnunet_sfma.planning.slice_axis import SliceAxisPlanner

    planned = json.loads(json.dumps(SliceAxisPlanner(workspace.plain, "z").plan_experiment()))
    own = read(workspace, "nnUNetPlans")
    planned["configurations"]["2d"].pop("data_identifier")
    own["configurations"]["2d"].pop("data_identifier")
    for key in own.keys() - {"plans_name", "experiment_planner_used", "configurations"}:
        assert planned[key] == own[key]
    assert planned["configurations"]["2d"] == own["configurations"]["2d"]


def test_plans_along_one_axis_share_their_data_unless_the_spacing_differs(workspace):
    for arguments in (["sfmanet"], ["danie-s"], ["sfmanet", "--name", "coarse", "--set", "spacing=[4.0,2.0]"]):
        main(["plan", "-d", "1", "--preset", *arguments, "-np", "1", "--slice-axis", "x", *THICK_ENOUGH])
    names = [
        read(workspace, name)["configurations"]["2d"]["data_identifier"]
        for name in ("sfmanet-x", "danie-s-x", "coarse")
    ]
    assert names == ["nnUNetPlans-x_2d", "nnUNetPlans-x_2d", "coarse_2d"]


def test_nnunets_own_axis_shares_nnunets_data(workspace, capsys):
    main(["plan", "-d", "1", "--preset", "sfmanet", "--slice-axis", "z"])
    printed = capsys.readouterr().out
    assert "nnU-Net slices this data set along z by itself: its preprocessed data is shared" in printed
    assert "nnUNetv2_preprocess" not in printed
    own, plans = read(workspace, "nnUNetPlans"), read(workspace, "sfmanet-z")
    assert plans["transpose_forward"] == own["transpose_forward"]
    assert plans["configurations"]["2d"]["data_identifier"] == own["configurations"]["2d"]["data_identifier"]


def test_only_the_new_plans_are_written(workspace):
    folder = workspace.preprocessed / workspace.plain
    before = contents(folder)
    main(["plan", "-d", "1", "--preset", "sfmanet", "-np", "1", "--slice-axis", "x", *THICK_ENOUGH])
    after = {name: content for name, content in contents(folder).items() if not name.startswith("nnUNetPlans-x_2d/")}
    assert after.pop("sfmanet-x.json") and after == before


def test_data_of_an_axis_is_made_once_and_again_for_changed_plans(workspace, capsys):
    command = ["plan", "-d", "1", "--preset", "sfmanet", "-np", "1", "--slice-axis", "x", *THICK_ENOUGH]
    main(command)
    data = workspace.preprocessed / workspace.plain / "nnUNetPlans-x_2d"
    made = (data / "case_0.pkl").stat().st_mtime_ns
    capsys.readouterr()
    main(command)
    assert "All cases are preprocessed already" in capsys.readouterr().out
    assert (data / "case_0.pkl").stat().st_mtime_ns == made
    (data / "case_1.pkl").unlink()
    main(command)
    assert (data / "case_1.pkl").is_file()
    for again in ([*command, "batch_size=3", "--overwrite"], [*command, "batch_size=3"]):
        made = (data / "case_0.pkl").stat().st_mtime_ns
        main(again)
        assert (data / "case_0.pkl").stat().st_mtime_ns > made
        # as a conversion with --overwrite leaves it
        os.utime(workspace.raw / workspace.plain / "dataset.json")


def test_plans_of_another_axis_are_not_replaced(workspace):
    main(["plan", "-d", "1", "--preset", "sfmanet", "--name", "mine"])
    again = ["plan", "-d", "1", "--preset", "sfmanet", "--name", "mine", "-np", "1", "--slice-axis", "x", *THICK_ENOUGH]
    with pytest.raises(UserError, match="exists and differs"):
        main(again)
    assert read(workspace, "mine")["transpose_forward"] == [0, 1, 2]
    main([*again, "--overwrite"])
    assert read(workspace, "mine")["transpose_forward"] == [2, 0, 1]


def forget_fingerprint(raw: Path, preprocessed: Path) -> None:
    (preprocessed / "dataset_fingerprint.json").unlink()


def change_dataset(raw: Path, preprocessed: Path) -> None:
    description = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**description, "labels": {"background": 0, "tumour": 1}}))


def remove_raw_data(raw: Path, preprocessed: Path) -> None:
    shutil.rmtree(raw)


def remove_images(raw: Path, preprocessed: Path) -> None:
    shutil.rmtree(raw / "imagesTr")
    (raw / "imagesTr").mkdir()


def split_otherwise(raw: Path, preprocessed: Path) -> None:
    for folder, train, val in ((raw, "case_0", "case_1"), (preprocessed, "case_1", "case_0")):
        (folder / "splits_final.json").write_text(json.dumps([{"train": [train], "val": [val]}]))


def flatten(raw: Path, preprocessed: Path) -> None:
    path = preprocessed / "nnUNetPlans.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "original_median_shape_after_transp": [1, 40, 32]}))


def rename_plans(raw: Path, preprocessed: Path) -> None:
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    (preprocessed / "other.json").write_text(json.dumps({**plans, "plans_name": "other"}))


def nothing(raw: Path, preprocessed: Path) -> None:
    """The data set is as it should be."""


@pytest.mark.parametrize(
    "spoil, arguments, sentence",
    [
        (forget_fingerprint, THICK_ENOUGH, "dataset_fingerprint.json does not exist: run nnUNetv2_extract_fingerprint"),
        (change_dataset, THICK_ENOUGH, "has changed since nnU-Net planned: run nnUNetv2_plan_and_preprocess -d 001"),
        (remove_raw_data, THICK_ENOUGH, "dataset.json does not exist, and another slice axis is planned from raw data"),
        (remove_images, THICK_ENOUGH, "see what nnUNetv2_plan_experiment -d 001 says"),
        (split_otherwise, THICK_ENOUGH, "splits_final.json as they are: see what nnUNetv2_plan_experiment"),
        (flatten, THICK_ENOUGH, r"has single slices \(1 x 40 x 32\): leave out --slice-axis"),
        (rename_plans, ["-p", "other", *THICK_ENOUGH], "nothing of the plans 'other' would be used: leave out -p"),
        (nothing, [], r"at least 16, such as \[256,256\], got \[5, 40\]"),
    ],
)
def test_what_cannot_be_planned_is_said_and_leaves_nothing(workspace, spoil, arguments, sentence):
    folder = workspace.preprocessed / workspace.plain
    spoil(workspace.raw / workspace.plain, folder)
    before = contents(folder)
    with pytest.raises(UserError, match=sentence) as error:
        main(["plan", "-d", "1", "--preset", "sfmanet", "--slice-axis", "x", *arguments])
    assert "\n" not in str(error.value)
    assert contents(folder) == before
