"""Synapse: three numberings of the organs, checked by name, and an orientation that stays."""

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from dataset_conversion.found import convert
from dataset_conversion.synapse import find
from nnunet_sfma.errors import UserError
from tests.dataset_conversion import releases
from tests.dataset_conversion.releases import FLIPPED, SIZE, names, one, synapse_label, voxels, write

ORIGINAL = {
    "spleen": 1,
    "right kidney": 2,
    "left kidney": 3,
    "gallbladder": 4,
    "oesophagus": 5,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior vena cava": 9,
    "portal and splenic vein": 10,
    "pancreas": 11,
    "right adrenal gland": 12,
    "left adrenal gland": 13,
}
TRANSUNET = ["aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach"]
CASCADE = ["spleen", "right kidney", "left kidney", "gallbladder", "pancreas", "liver", "stomach", "aorta"]
MAPS = {"transunet": TRANSUNET, "cascade": CASCADE, "full": list(ORIGINAL)}
"""Organs in the order of their new values, from 1."""


@pytest.mark.parametrize("labels", MAPS)
def test_every_organ_gets_the_value_that_belongs_to_its_name(raw, source, labels):
    target = convert(find(releases.build_synapse(source), labels), 501)
    declared = json.loads((target / "dataset.json").read_text())["labels"]
    assert declared == {"background": 0, **{organ: value for value, organ in enumerate(MAPS[labels], 1)}}
    for number in (1, 2, 40):
        original = sitk.GetArrayFromImage(synapse_label(number))
        written = voxels(target / f"labelsTr/case{number:04d}.nii.gz")
        for organ, value in declared.items():
            if organ != "background":
                np.testing.assert_array_equal(written == value, original == ORIGINAL[organ], err_msg=organ)


@pytest.mark.parametrize("labels", ["transunet", "cascade"])
def test_organs_outside_the_benchmark_become_background(raw, source, labels):
    target = convert(find(releases.build_synapse(source), labels), 501)
    original = sitk.GetArrayFromImage(synapse_label(1))
    outside = np.isin(original, [0, 5, 9, 10, 12, 13])
    np.testing.assert_array_equal(voxels(target / "labelsTr/case0001.nii.gz") == 0, outside)


def test_the_two_numberings_are_not_one(raw, source):
    root = releases.build_synapse(source)
    first, second = (convert(find(root, labels), 500 + index) for index, labels in enumerate(["transunet", "cascade"]))
    assert first.name == "Dataset500_Synapse" and second.name == "Dataset501_Synapse_CASCADE"
    spleen = [voxels(target / "labelsTr/case0001.nii.gz") == value for target, value in ((first, 7), (second, 1))]
    assert spleen[0].any()
    np.testing.assert_array_equal(*spleen)


def test_provenance_tells_the_label_map(raw, source):
    target = convert(find(releases.build_synapse(source), "cascade"), 501)
    assert json.loads((target / "provenance.json").read_text())["options"]["labels"] == "cascade"


def test_flipped_and_tilted_scan_keeps_its_orientation(raw, source):
    root = releases.build_synapse(source)
    target = convert(find(root), 501)
    before = sitk.ReadImage(str(one(root, "img0001*")))
    for name in ("imagesTr/case0001_0000.nii.gz", "labelsTr/case0001.nii.gz"):
        after = sitk.ReadImage(str(target / name))
        assert after.GetSize() == SIZE
        np.testing.assert_allclose(after.GetDirection(), FLIPPED, atol=1e-6)
        np.testing.assert_allclose(after.GetSpacing(), before.GetSpacing(), atol=1e-6)
        np.testing.assert_allclose(after.GetOrigin(), before.GetOrigin(), atol=1e-4)
    np.testing.assert_array_equal(voxels(target / "imagesTr/case0001_0000.nii.gz"), voxels(one(root, "img0001*")))


def test_hounsfield_units_stay(raw, source):
    target = convert(find(releases.build_synapse(source)), 501)
    image = sitk.ReadImage(str(target / "imagesTr/case0040_0000.nii.gz"))
    assert image.GetPixelID() == sitk.sitkInt16 and sitk.GetArrayViewFromImage(image).min() < -900
    assert json.loads((target / "dataset.json").read_text())["channel_names"] == {"0": "CT"}


def test_testing_scans_go_to_images_ts(raw, source, provenance):
    target = convert(find(releases.build_synapse(source)), 501)
    assert names(target / "imagesTs") == ["case0061_0000.nii.gz"] and not (target / "labelsTs").exists()
    assert provenance(target)["case0061"]["part"] == "Testing"


@pytest.mark.parametrize("where", [".", "..", "Training"])
def test_release_is_found_from_folders_above_and_below(source, where):
    found = find(releases.build_synapse(source) / where)
    assert [case.identifier for case in found.cases] == ["case0001", "case0002", "case0040"]
    assert found.counts["Training"] == (3, 30)


@pytest.mark.parametrize("above", ["plain", "Testing"])
def test_training_scan_without_label_is_named(source, above):
    """Also where the user's own folder is called Testing."""
    root = releases.build_synapse(source / above)
    one(root, "label0002*").unlink()
    (problem,) = find(root).problems
    assert "0002 has an image but no mask" in problem


def test_label_without_scan_is_named(source):
    root = releases.build_synapse(source)
    one(root, "img0002*").unlink()
    (problem,) = find(root).problems
    assert "0002 has a mask but no image" in problem


@pytest.mark.parametrize("value", [14, 255])
@pytest.mark.parametrize("labels", MAPS)
def test_value_beyond_the_thirteen_organs(raw, source, labels, value):
    root = releases.build_synapse(source)
    write(releases.mask(value=value, direction=FLIPPED), one(root, "label0002*"))
    with pytest.raises(UserError) as error:
        convert(find(root, labels), 501)
    assert str(one(root, "label0002*")) in str(error.value) and f"({value})" in str(error.value)
    assert names(raw) == []


def test_fractional_and_negative_values(raw, source):
    root = releases.build_synapse(source)
    for factor in (0.5, -1.0):
        changed = sitk.Cast(releases.mask(direction=FLIPPED), sitk.sitkFloat32) * factor
        write(changed, one(root, "label0002*"))
        with pytest.raises(UserError, match=rf"label0002.nii.gz has the values \({factor:g}\)"):
            convert(find(root), 501)


def test_float_noise_is_rounded_away(raw, source):
    root = releases.build_synapse(source)
    usual = voxels(convert(find(root), 501) / "labelsTr/case0002.nii.gz")
    write(sitk.Cast(synapse_label(2), sitk.sitkFloat32) * 0.99996, one(root, "label0002*"))
    np.testing.assert_array_equal(voxels(convert(find(root), 502) / "labelsTr/case0002.nii.gz"), usual)


def test_unknown_label_map(source):
    with pytest.raises(UserError, match="'btcv' is no label map of Synapse; choose one of transunet, cascade, full"):
        find(releases.build_synapse(source), "btcv")
