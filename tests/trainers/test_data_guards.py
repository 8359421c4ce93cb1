"""Data that could not be trained or evaluated: our trainers and crossval refuse before the first step."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from tests.trainers.conftest import TRAINER

CROSSVAL = ["crossval", "-d", "1", "-tr", TRAINER, "-p", "tiny", "-device", "cpu", "--dry-run"]
GRIDS = {
    "spacing": lambda label: label.SetSpacing((1, 1, 1)),
    "origin": lambda label: label.SetOrigin(np.add(label.GetOrigin(), (0.6, 0, 0)).tolist()),
    "direction": lambda label: turn(label, 0.004),
}


def turn(label: sitk.Image, angle: float) -> None:
    """Turn the axes a little in the plane of the slices; the angle is in radians."""
    rotation = np.array([[1, angle, 0], [-angle, 1, 0], [0, 0, 1]])
    label.SetDirection((np.reshape(label.GetDirection(), (3, 3)) @ rotation).ravel().tolist())


def start(dataset: int = 1, fold: int | str = 0):
    """Our trainer, up to where the first step would come."""
    trainer = get_trainer_from_args(str(dataset), "2d", fold, TRAINER, "tiny", device=torch.device("cpu"))
    trainer.initialize()
    return trainer.get_tr_and_val_datasets()


def refusal(run, *arguments) -> str:
    with pytest.raises(UserError) as error:
        run(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def preprocessed(workspace, plan) -> Path:
    """The first data set's folder in nnUNet_preprocessed, with plans "tiny"."""
    plan("training.num_epochs=1")
    return workspace.preprocessed / workspace.plain


def change_grid(path: Path, change) -> None:
    label = sitk.ReadImage(str(path))
    change(label)
    sitk.WriteImage(label, str(path))


def test_label_on_another_grid_than_its_image_is_refused(workspace, preprocessed, capsys):
    start()
    main(CROSSVAL)
    assert "Warning" not in capsys.readouterr().err
    label = preprocessed / "gt_segmentations" / "case_3.nii.gz"
    kept = label.read_bytes()
    for place, change in GRIDS.items():
        change_grid(label, change)
        for said in (refusal(start), refusal(main, CROSSVAL)):
            assert re.search(rf"have different grids in 1 of 6 cases \(case_3: [a-z ]*{place}", said), said
            assert "CopyInformation" in said and "nnUNetv2_preprocess -d 1 -plans_name tiny -c 2d" in said
        label.write_bytes(kept)
    shutil.rmtree(workspace.raw / workspace.plain)
    change_grid(label, GRIDS["origin"])
    start()  # nothing is known of the image


def test_what_is_refused_here_is_what_evaluate_refuses(preprocessed, tmp_path):
    """One comparison for both; a tenth of what they refuse passes both."""
    label, predictions = preprocessed / "gt_segmentations" / "case_0.nii.gz", tmp_path / "predictions"
    predictions.mkdir()
    shutil.copy(label, predictions)
    evaluate = ["evaluate", "-i", str(predictions), "-l", str(tmp_path / "labels"), "-np", "1"]
    evaluate += ["-djfile", str(preprocessed / "dataset.json")]
    (tmp_path / "labels").mkdir()
    for angle, refused in ((0.004, True), (0.0004, False)):
        label.write_bytes((predictions / label.name).read_bytes())
        change_grid(label, lambda image, angle=angle: turn(image, angle))
        shutil.copy(label, tmp_path / "labels")
        if refused:
            assert "different grids (another direction)" in refusal(main, evaluate)
            assert "case_0: direction" in refusal(start)
        else:
            main(evaluate)
            start()


def test_readers_for_which_no_header_is_read_apart(workspace, preprocessed):
    """nnU-Net's readers for NIfTI by nibabel, and those that turn the axes: as evaluate reads them."""
    label = preprocessed / "gt_segmentations" / "case_3.nii.gz"
    kept = label.read_bytes()
    for reader in ("NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient"):
        for path in (preprocessed / "tiny.json", preprocessed / "nnUNetPlans.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"image_reader_writer": reader}))
        start()
        change_grid(label, GRIDS["origin"])
        assert re.search(r"\(case_3: (affine|origin)\)", refusal(start))
        label.write_bytes(kept)


def test_label_corrected_after_preprocessing_is_told(workspace, preprocessed, capsys):
    label = workspace.raw / workspace.plain / "labelsTr" / "case_2.nii.gz"
    image = sitk.ReadImage(str(label))
    sitk.WriteImage(image * 0, str(label))
    main(CROSSVAL)
    said = capsys.readouterr().err
    assert "Warning: 1 case is in" in said and "otherwise than preprocessed (case_2)" in said
    start()
    assert said.splitlines()[-1] in capsys.readouterr().out


def relabel(folder: Path, case: str, value: int, foreground_known: bool = True) -> None:
    """Give the foreground of a preprocessed case another value."""
    data, labels, _, properties = nnUNetDatasetBlosc2(str(folder), [case]).load_case(case)
    data, labels = data[:], labels[:]
    for path in folder.glob(f"{case}*"):
        path.unlink()
    changed = np.where(labels == 1, value, labels).astype(np.int16)
    if not foreground_known:
        properties["class_locations"] = {1: []}
    nnUNetDatasetBlosc2.save_case(data, changed, properties, str(folder / case))


@pytest.mark.parametrize("value", [2, 255, -2])
def test_label_that_dataset_json_does_not_know_is_refused(workspace, preprocessed, value):
    relabel(preprocessed / "nnUNetPlans_2d", "case_4", value)
    said = refusal(start)
    assert f"Labels that dataset.json does not know ({value}; it knows 0, 1) are in 1 of 6 cases (case_4)" in said
    assert not list(workspace.results.rglob("*.pth"))


def test_unknown_label_with_regions_and_an_ignore_label(workspace, plan):
    """Regions would take it for background without a word; the ignore label itself is known."""
    plan("training.num_epochs=1", dataset=2)
    start(dataset=2)
    relabel(workspace.preprocessed / workspace.regions / "nnUNetPlans_2d", "case_1", 4)
    assert "does not know (4; it knows 0, 1, 2, 3) are in 1 of 6 cases (case_1)" in refusal(start, 2)


def test_negative_label_is_told_from_what_nnunet_marks_as_outside(preprocessed):
    """Both are -1 in preprocessed data, and both would be trained as background."""
    said = "Labels that dataset.json does not know (-1; it knows 0, 1) are in 1 of 6 cases (case_5)"
    folder, label = preprocessed / "nnUNetPlans_2d", preprocessed / "gt_segmentations" / "case_5.nii.gz"
    relabel(folder, "case_5", -1)
    assert said in refusal(start)
    relabel(folder, "case_5", -1, foreground_known=False)
    start()
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(label)), sitk.sitkInt16) * -1, str(label))
    assert said in refusal(start)


@pytest.mark.parametrize("is_set", [False, True])
def test_training_needs_no_raw_data(workspace, preprocessed, monkeypatch, is_set):
    shutil.rmtree(workspace.raw / workspace.plain)
    if not is_set:
        monkeypatch.delenv("nnUNet_raw")
    training, validation = start()
    assert (len(training.identifiers), len(validation.identifiers)) == (4, 2)
