"""Which cases have to be preprocessed again: every file of the raw data counts, and clocks may differ."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_sfma.preprocessed_age import outdated_cases, renew_references
from tests.conftest import Workspace


@pytest.fixture
def folders(workspace: Workspace) -> tuple[Path, Path]:
    """The raw and the preprocessed folder of the data set with two channels."""
    return workspace.raw / workspace.regions, workspace.preprocessed / workspace.regions


def outdated(folders: tuple[Path, Path]) -> list[str]:
    return outdated_cases(*folders, "nnUNetPlans_2d")


def rewrite_label(raw: Path, case: str) -> Path:
    path = raw / "labelsTr" / f"{case}.nii.gz"
    label = sitk.ReadImage(str(path))
    array = np.zeros_like(sitk.GetArrayFromImage(label))
    array[1, 4:8, 4:8] = 1
    corrected = sitk.GetImageFromArray(array)
    corrected.CopyInformation(label)
    sitk.WriteImage(corrected, str(path))
    return path


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime + seconds
    os.utime(path, (then, then))


def test_data_as_it_was_preprocessed_is_not_outdated(folders):
    assert outdated(folders) == []


@pytest.mark.parametrize(
    "name", ["imagesTr/case_2_0000.nii.gz", "imagesTr/case_2_0001.nii.gz", "labelsTr/case_2.nii.gz"]
)
def test_every_file_of_a_case_counts(folders, name):
    age(folders[0] / name, 3600)
    assert outdated(folders) == ["case_2"]


def test_corrected_label_counts_although_a_clock_says_that_it_is_older(folders):
    label = rewrite_label(folders[0], "case_4")
    age(label, -10 * 86400)
    assert outdated(folders) == ["case_4"]
    others = {path: path.stat().st_mtime_ns for path in (folders[1] / "gt_segmentations").glob("case_[!4]*")}
    renew_references(*folders)
    assert (folders[1] / "gt_segmentations" / "case_4.nii.gz").read_bytes() == label.read_bytes()
    assert outdated(folders) == ["case_4"], "the data is still that of the label before"
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_case_that_was_added_or_lost_its_preprocessed_files_counts(folders):
    raw, preprocessed = folders
    for channel in (0, 1):
        shutil.copy2(raw / "imagesTr" / f"case_0_000{channel}.nii.gz", raw / "imagesTr" / f"new_000{channel}.nii.gz")
    (preprocessed / "nnUNetPlans_2d" / "case_1.pkl").unlink()
    for path in (preprocessed / "nnUNetPlans_2d").glob("case_3*"):
        path.unlink()
    assert outdated(folders) == ["case_3", "new"]


def test_nothing_is_known_without_the_raw_data(folders):
    shutil.rmtree(folders[0])
    renew_references(*folders)
    assert outdated(folders) == []
