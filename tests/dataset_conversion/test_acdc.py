"""ACDC: the frames that Info.cfg names, both phases of a patient together, and headers that contradict themselves."""

import json

import nibabel
import numpy as np
import pytest

from dataset_conversion.acdc import find
from dataset_conversion.found import convert
from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from tests.dataset_conversion import releases
from tests.dataset_conversion.releases import ACDC_AFFINE, Patient, acdc_image, acdc_truth, names, one, write_nifti

UNIT = np.eye(4)
"""The sform of the released files: unit scales and no offset."""


def nifti(path):
    """Voxels in (x, y, z) and affine, read by a reader that is not the converter's."""
    image = nibabel.load(path)
    return np.asanyarray(image.dataobj), image.affine


def test_frames_are_those_of_info_cfg(raw, source):
    """In patient090 end diastole is frame 4."""
    target = convert(find(releases.build_acdc(source)), 501)
    assert names(target / "imagesTr") == [
        "patient001_frame01_0000.nii.gz",
        "patient001_frame12_0000.nii.gz",
        "patient090_frame04_0000.nii.gz",
        "patient090_frame11_0000.nii.gz",
    ]
    np.testing.assert_array_equal(nifti(target / "imagesTr/patient090_frame04_0000.nii.gz")[0], acdc_image(90, 4))
    np.testing.assert_array_equal(nifti(target / "imagesTr/patient090_frame11_0000.nii.gz")[0], acdc_image(90, 11))


def test_other_frames_of_a_patient_are_left_alone(raw, source):
    """Some copies hold all frames; the first is neither ED nor ES here."""
    root = releases.build_acdc(source)
    write_nifti(acdc_image(90, 1), root / "training/patient090/patient090_frame01.nii.gz")
    found = find(root)
    assert not found.problems and "patient090_frame01" not in {case.identifier for case in found.cases}


def test_labels_are_the_official_ones(raw, source):
    target = convert(find(releases.build_acdc(source)), 501)
    entries = json.loads((target / "dataset.json").read_text())
    assert entries["labels"] == {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
    for name in ("patient001_frame01", "patient090_frame11"):
        np.testing.assert_array_equal(nifti(target / f"labelsTr/{name}.nii.gz")[0], acdc_truth())


def test_both_frames_are_one_subject_with_its_group(raw, source, provenance):
    cases = provenance(convert(find(releases.build_acdc(source)), 501))
    for frame in ("patient090_frame04", "patient090_frame11"):
        assert (cases[frame]["subject"], cases[frame]["stratum"]) == ("patient090", "MINF")
    assert cases["patient001_frame01"]["stratum"] == "DCM"


def test_windows_line_ends_in_info_cfg(raw, source, provenance):
    found = find(releases.build_acdc(source, line_end="\r\n"))
    assert [case.identifier for case in found.cases][2:] == ["patient090_frame04", "patient090_frame11"]
    assert {case.stratum for case in found.cases} == {"DCM", "MINF"}


def test_testing_patients_with_and_without_ground_truth(raw, source, provenance):
    target = convert(find(releases.build_acdc(source)), 501)
    with_truth = ["patient101_frame01", "patient101_frame14"]
    without = ["patient102_frame01", "patient102_frame13"]
    assert names(target / "imagesTs") == [f"{name}_0000.nii.gz" for name in with_truth + without]
    assert names(target / "labelsTs") == [f"{name}.nii.gz" for name in with_truth]
    assert {provenance(target)[name]["part"] for name in with_truth + without} == {"Testing"}


def test_counts_are_frames(source):
    assert find(releases.build_acdc(source)).counts == {"Training": (4, 200), "Testing": (4, 100)}


def test_parts_need_no_folders_of_their_own(source):
    """The patient's number tells the part."""
    root = releases.build_acdc(source)
    for patient in [*root.glob("t*ing/patient*")]:
        releases.move(patient, source / "flat" / patient.name)
    found = find(source / "flat")
    assert not found.problems and (len(found.cases), len(found.test_cases)) == (4, 4)


# Info.cfg that lacks something


def test_missing_info_cfg_of_a_training_patient_falls_back_on_the_ground_truth(raw, source, provenance):
    root = releases.build_acdc(source, {90: Patient(4, 11, info=False)})
    cases = provenance(convert(find(root), 501))
    assert set(cases) == {"patient090_frame04", "patient090_frame11"}
    assert {entry["subject"] for entry in cases.values()} == {"patient090"}


def test_missing_info_cfg_and_ground_truth_is_named(source):
    root = releases.build_acdc(source, {1: Patient(1, 12), 102: Patient(1, 13, ground_truth=False, info=False)})
    (problem,) = find(root).problems
    assert "patient102" in problem and "Info.cfg" in problem


@pytest.mark.parametrize("text", ["", "ED: 4\nGroup: NOR\n", "ED: one\nES: 11\n", "\x00\xff binary"])
def test_info_cfg_without_frames_is_named(source, text):
    root = releases.build_acdc(source)
    info = root / "training/patient090/Info.cfg"
    info.write_text(text, encoding="latin-1")
    assert any(str(info) in problem and "ED and ES" in problem for problem in find(root).problems)


def test_info_cfg_of_something_else_is_no_patient(source):
    root = releases.build_acdc(source)
    (root / "Info.cfg").write_text("ED: 1\nES: 2\n")
    assert len(find(root).cases) == 4


def test_frame_that_info_cfg_names_but_nobody_has(source):
    root = releases.build_acdc(source)
    for path in root.rglob("patient090_frame04*"):
        path.unlink()
    (problem,) = find(root).problems
    assert "patient090_frame04 has no image" in problem


def test_training_frame_without_ground_truth_is_named(source):
    root = releases.build_acdc(source)
    one(root, "patient090_frame04_gt*").unlink()
    (problem,) = find(root).problems
    assert "patient090_frame04 has no ground truth" in problem


# Headers


def spoil(root, pattern, **forms):
    """Write the files that match once more with another header."""
    for path in [*root.rglob(pattern)]:
        write_nifti(nifti(path)[0], path, **forms)


def test_ground_truth_of_one_phase_alone_is_no_copy_without_ground_truth(source):
    root = releases.build_acdc(source)
    one(root, "patient101_frame14_gt*").unlink()
    (problem,) = find(root).problems
    assert "patient101_frame14 has no ground truth" in problem


def test_headers_that_agree_are_not_noted(raw, source, provenance):
    target = convert(find(releases.build_acdc(source)), 501)
    assert all(entry["notes"] == [] for entry in provenance(target).values())
    np.testing.assert_allclose(nifti(target / "imagesTr/patient001_frame01_0000.nii.gz")[1], ACDC_AFFINE, atol=1e-4)


@pytest.mark.parametrize("code", [1, 2])
@pytest.mark.parametrize("kinds", ["both", "image", "truth"])
def test_unit_sform_gives_way_to_the_qform(raw, source, provenance, capsys, kinds, code):
    """ITK itself follows the one or the other, by the sform's code."""
    root = releases.build_acdc(source, {1: Patient(1, 12)})
    if kinds != "truth":
        spoil(root, "patient001_frame??.nii.gz", sform=UNIT, sform_code=code)
    if kinds != "image":
        spoil(root, "*_gt.nii.gz", sform=UNIT, sform_code=code)
    target = convert(find(root), 501)
    for path in [*target.rglob("*.nii.gz")]:
        np.testing.assert_allclose(nifti(path)[1], ACDC_AFFINE, atol=1e-4)
    for entry in provenance(target).values():
        assert any("sform" in note and "qform" in note for note in entry["notes"])
    assert "2 cases (patient001_frame01, patient001_frame12): the sform" in capsys.readouterr().out
    np.testing.assert_array_equal(nifti(target / "imagesTr/patient001_frame12_0000.nii.gz")[0], acdc_image(1, 12))
    np.testing.assert_array_equal(nifti(target / "labelsTr/patient001_frame12.nii.gz")[0], acdc_truth())


def test_itk_does_not_complain_to_the_user(raw, source, capfd):
    root = releases.build_acdc(source, {1: Patient(1, 12)})
    spoil(root, "*_frame*.nii.gz", sform=UNIT)
    convert(find(root), 501)
    said = capfd.readouterr()
    assert "warning" not in (said.out + said.err).lower()


def test_ground_truth_with_another_header_gets_the_images(raw, source, provenance, capsys):
    root = releases.build_acdc(source, {1: Patient(1, 12)})
    spoil(root, "patient001_frame01_gt.nii.gz", qform=UNIT, sform=UNIT)
    target = convert(find(root), 501)
    voxels, affine = nifti(target / "labelsTr/patient001_frame01.nii.gz")
    np.testing.assert_allclose(affine, ACDC_AFFINE, atol=1e-4)
    np.testing.assert_array_equal(voxels, acdc_truth())
    notes = {case: entry["notes"] for case, entry in provenance(target).items()}
    assert notes["patient001_frame12"] == []
    assert len(notes["patient001_frame01"]) == 1 and "image and ground truth" in notes["patient001_frame01"][0]
    assert "1 cases (patient001_frame01): image and ground truth" in capsys.readouterr().out


def test_qform_alone_and_sform_alone(raw, source):
    root = releases.build_acdc(source, {1: Patient(1, 12)})
    spoil(root, "patient001_frame01*", sform=None)
    spoil(root, "patient001_frame12*", qform=None)
    target = convert(find(root), 501)
    for path in [*target.rglob("*.nii.gz")]:
        np.testing.assert_allclose(nifti(path)[1], ACDC_AFFINE, atol=1e-4)


def test_ground_truth_of_another_size(raw, source):
    root = releases.build_acdc(source)
    path = one(root, "patient090_frame04_gt*")
    write_nifti(acdc_truth()[:, :, :-1], path)
    with pytest.raises(UserError) as error:
        convert(find(root), 501)
    assert str(path) in str(error.value) and "(10, 12, 5)" in str(error.value) and names(raw) == []


def test_value_that_is_no_part_of_the_heart(raw, source):
    root = releases.build_acdc(source)
    write_nifti(acdc_truth() + (acdc_truth() == 3).astype(np.uint8), one(root, "patient090_frame11_gt*"))
    with pytest.raises(UserError) as error:
        convert(find(root), 501)
    assert "patient090_frame11_gt.nii.gz" in str(error.value) and "(4)" in str(error.value) and names(raw) == []


def test_names_in_another_case_do_not_end_in_a_traceback(raw, source):
    """They convert or are refused in a sentence."""
    root = releases.build_acdc(source, {1: Patient(1, 12)})
    for path in [*root.rglob("patient001_*")]:
        path.rename(path.with_name(path.name.replace("patient", "Patient")))
    try:
        main(["convert", "acdc", str(root), "--dry-run"])
    except SystemExit as error:
        assert isinstance(error, UserError) and "\n" not in str(error)


# Real images


def test_real_patients_convert_with_their_voxels(raw, real_acdc):
    found = find(real_acdc)
    assert found.cases and not found.problems
    target = convert(found, 501)
    for case in found.cases:
        image, truth = case.sources
        written = nifti(target / f"imagesTr/{case.identifier}_0000.nii.gz")
        np.testing.assert_array_equal(written[0], nifti(image)[0])
        np.testing.assert_array_equal(nifti(target / f"labelsTr/{case.identifier}.nii.gz")[0], nifti(truth)[0])
        np.testing.assert_allclose(written[1], nifti(image)[1], atol=1e-4)
