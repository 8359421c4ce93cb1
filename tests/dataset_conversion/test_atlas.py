"""ATLAS in its three layouts: the union of a scan's masks, subjects, and scans without a mask."""

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from dataset_conversion.atlas import find
from dataset_conversion.found import convert
from nnunet_sfma.errors import UserError
from tests.dataset_conversion import releases
from tests.dataset_conversion.releases import mask, names, one, voxels, write

BUILDERS = {
    "R1.1": releases.build_atlas_r1_1,
    "R1.2": releases.build_atlas_r1_2,
    "R2.0": releases.build_atlas_r2_0,
}
FIRST_CASE = {"R1.1": "031768_t01", "R1.2": "c0001s0004t01", "R2.0": "r001s001_ses-1"}
FIRST_IMAGE = {"R1.1": "031768_t1w*", "R1.2": "c0001s0004t01_t1w*", "R2.0": "sub-r001s001*_T1w.nii.gz"}
FIRST_MASKS = {"R1.1": "031768_Lesion*", "R1.2": "c0001s0004t01_Lesion*", "R2.0": "sub-r001s001*_mask*"}


def fails(source) -> str:
    """The sentence with which a conversion fails."""
    with pytest.raises(UserError) as error:
        convert(find(source), 501)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("layout", "total"), [("R1.1", 229), ("R1.2", 239), ("R2.0", 655)])
def test_layout_is_recognised_from_the_folder_and_the_one_above(raw, source, layout, total):
    root = BUILDERS[layout](source)
    for folder in (root, root.parent):
        found = find(folder)
        assert found.layout == layout and not found.problems
        assert found.counts["Training"] == (len(found.cases), total)
    assert names(raw) == []


@pytest.mark.parametrize("layout", BUILDERS)
def test_dataset_is_binary_and_named_after_its_release(raw, source, layout):
    target = convert(find(BUILDERS[layout](source)), 501)
    entries = json.loads((target / "dataset.json").read_text())
    assert target.name == f"Dataset501_ATLAS_{layout.replace('.', '_')}"
    assert entries["labels"] == {"background": 0, "lesion": 1} and entries["channel_names"] == {"0": "T1w"}
    assert "Liew" in entries["reference"] and "agreement" in entries["licence"]


@pytest.mark.parametrize("layout", BUILDERS)
def test_image_keeps_voxels_and_geometry(raw, source, layout):
    root = BUILDERS[layout](source)
    target = convert(find(root), 501)
    before = sitk.ReadImage(str(one(root, FIRST_IMAGE[layout])))
    after = sitk.ReadImage(str(target / f"imagesTr/{FIRST_CASE[layout]}_0000.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before))
    assert after.GetSize() == releases.SIZE
    for getter in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(after, getter)(), getattr(before, getter)(), atol=1e-5)


@pytest.mark.parametrize("build", [releases.build_atlas_r1_1, releases.build_atlas_r1_2])
def test_label_is_the_union_of_all_masks_of_a_scan(raw, source, build):
    """The first mask is 1, the others 255, and they do not overlap."""
    target = convert(find(build(source, lesions=3)), 501)
    expected = sum((sitk.GetArrayFromImage(mask(lesion=index)) for index in range(3)), np.zeros((6, 12, 10)))
    for label in (target / "labelsTr").iterdir():
        np.testing.assert_array_equal(voxels(label), expected)


def test_overlapping_masks_stay_one(raw, source):
    root = releases.build_atlas_r1_2(source, lesions=2)
    write(mask(value=1), one(root, "c0001s0004t01_LesionSmooth_1_stx*"))
    target = convert(find(root), 501)
    np.testing.assert_array_equal(voxels(target / "labelsTr/c0001s0004t01.nii.gz"), sitk.GetArrayFromImage(mask()))


def test_a_smoothed_mask_counts_from_just_above_zero(raw, source):
    root = releases.build_atlas_r1_2(source, lesions=1)
    faint = sitk.Cast(mask(), sitk.sitkFloat32) * 0.01
    write(faint, one(root, "c0001s0004t01_LesionSmooth_stx*"))
    target = convert(find(root), 501)
    np.testing.assert_array_equal(voxels(target / "labelsTr/c0001s0004t01.nii.gz"), sitk.GetArrayFromImage(mask()))


def test_more_than_nine_masks(raw, source):
    root = releases.build_atlas_r1_2(source, ["c0001s0004t01"], lesions=1)
    first = one(root, "*_LesionSmooth_stx*")
    for index in range(1, 12):
        box = np.zeros((6, 12, 10), np.uint8)
        box[5, index, 9] = 1
        write(releases.volume(box), first.with_name(f"c0001s0004t01_LesionSmooth_{index}_stx.nii.gz"))
    target = convert(find(root), 501)
    assert voxels(target / "labelsTr/c0001s0004t01.nii.gz").sum() == 12 + 11


def test_sources_name_every_mask(raw, source, provenance):
    target = convert(find(releases.build_atlas_r1_2(source, lesions=3)), 501)
    assert len(provenance(target)["c0001s0004t01"]["sha256"]) == 4


def test_both_scans_of_a_subject_belong_together(raw, source, provenance):
    cases = provenance(convert(find(releases.build_atlas_r1_2(source)), 501))
    assert {case: entry["subject"] for case, entry in cases.items()} == {
        "c0001s0004t01": "c0001s0004",
        "c0010s0005t01": "c0010s0005",
        "c0010s0005t02": "c0010s0005",
    }


def test_scans_of_r1_1_are_told_apart_by_their_folder(raw, source, provenance):
    root = releases.build_atlas_r1_1(source, ["031768/t01", "031768/t02", "031769/t01"])
    target = convert(find(root), 501)
    assert {case: entry["subject"] for case, entry in provenance(target).items()} == {
        "031768_t01": "031768",
        "031768_t02": "031768",
        "031769_t01": "031769",
    }
    first, second = (voxels(target / f"imagesTr/031768_t0{time}_0000.nii.gz") for time in (1, 2))
    assert (first != second).any()


def test_sessions_of_r2_0_belong_to_one_subject(raw, source, provenance):
    root = releases.build_atlas_r2_0(source)
    session = one(root, "sub-r001s001") / "ses-1"
    for path in [*session.rglob("*.nii.gz")]:
        write(sitk.ReadImage(str(path)), session.with_name("ses-2") / "anat" / path.name.replace("ses-1", "ses-2"))
    cases = provenance(convert(find(root), 501))
    assert cases["r001s001_ses-1"]["subject"] == cases["r001s001_ses-2"]["subject"] == "r001s001"


def test_testing_scans_of_r2_0_have_no_label_and_go_to_images_ts(raw, source, provenance):
    target = convert(find(releases.build_atlas_r2_0(source)), 501)
    assert names(target / "imagesTs") == ["r003s001_ses-1_0000.nii.gz"]
    assert not (target / "labelsTs").exists()
    assert "r003s001_ses-1.nii.gz" not in names(target / "labelsTr")
    assert provenance(target)["r003s001_ses-1"]["part"] == "Testing"


def test_counts_of_r2_0_tell_both_parts(source):
    assert find(releases.build_atlas_r2_0(source)).counts == {"Training": (3, 655), "Testing": (1, 300)}


@pytest.mark.parametrize("layout", BUILDERS)
@pytest.mark.parametrize("above", ["plain", "testing"])
def test_training_scan_without_mask_is_named(raw, source, layout, above):
    """Also where the user's own folder is called testing."""
    root = BUILDERS[layout](source / above)
    for path in root.rglob(FIRST_MASKS[layout]):
        path.unlink()
    sentence = fails(root.parent)
    assert f"{FIRST_CASE[layout]} has an image but no mask" in sentence.replace("sub-", "")
    assert "complete the download" in sentence


@pytest.mark.parametrize("layout", BUILDERS)
def test_mask_without_scan_is_named(raw, source, layout):
    root = BUILDERS[layout](source)
    one(root, FIRST_IMAGE[layout]).unlink()
    assert f"{FIRST_CASE[layout]} has a mask but no image" in fails(root).replace("sub-", "")


@pytest.mark.parametrize("which", ["LesionSmooth_stx", "LesionSmooth_1_stx"])
def test_any_mask_in_native_space_is_named(raw, source, which):
    root = releases.build_atlas_r1_2(source)
    native = one(root, f"c0001s0004t01_{which}*")
    write(mask(spacing=(1, 1, 1)), native)
    sentence = fails(root)
    assert str(native) in sentence and "spacing" in sentence and "standard space" in sentence


def test_two_releases_in_one_folder(source):
    releases.build_atlas_r1_2(source)
    releases.build_atlas_r2_0(source)
    with pytest.raises(UserError, match=r"several releases of ATLAS \(R1.2, R2.0\)"):
        find(source)


def test_only_testing_scans_is_no_training_set(raw, source):
    root = releases.build_atlas_r2_0(source)
    sentence = fails(root / "Testing")
    assert "no training cases" in sentence and names(raw) == []


def test_images_of_another_space_are_not_part_of_the_release(raw, source):
    """Native-space derivatives may lie beside the normalised scan."""
    root = releases.build_atlas_r2_0(source)
    scan = "sub-r001s001_ses-1"
    normalised = one(root, f"{scan}*T1w.nii.gz")
    for ending in ("T1w", "label-L_desc-T1lesion_mask"):
        write(mask(lesion=1), normalised.with_name(f"{scan}_space-orig_{ending}.nii.gz"))
    target = convert(find(root), 501)
    np.testing.assert_array_equal(voxels(target / f"labelsTr/{scan[4:]}.nii.gz"), sitk.GetArrayFromImage(mask()))
