import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from dataset_conversion import found
from dataset_conversion.isles2022 import find
from nnunet_sfma.errors import UserError
from tests.dataset_conversion.releases import one, write

LAYOUTS = ["zenodo", "challenge"]


def convert(source: Path, dataset_id: int, modality: str = "dwi", processes: int = 1) -> Path:
    return found.convert(find(source, modality), dataset_id, processes=processes)


def fails(raw, *args, **kwargs):
    """The sentence with which a conversion fails, once it is sure that nothing was left."""
    with pytest.raises(UserError) as error:
        convert(*args, **kwargs)
    assert list(raw.iterdir()) == []
    assert "\n" not in str(error.value)
    return str(error.value)


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def same_files(left: Path, right: Path) -> None:
    """The images and labels of two datasets agree in every voxel and in geometry."""
    names = sorted(path.relative_to(left) for path in left.rglob("*.nii.gz"))
    assert names and names == sorted(path.relative_to(right) for path in right.rglob("*.nii.gz"))
    for name in names:
        a, b = sitk.ReadImage(str(left / name)), sitk.ReadImage(str(right / name))
        np.testing.assert_array_equal(sitk.GetArrayViewFromImage(a), sitk.GetArrayViewFromImage(b))
        for getter in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
            assert getattr(a, getter)() == getattr(b, getter)()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parent", [False, True])
def test_both_layouts_from_the_folder_and_its_parent(raw, tmp_path, build_isles, volume, mask, layout, parent, capsys):
    root = build_isles(tmp_path / "src", layout)
    target = convert(root.parent if parent else root, 501)
    assert target == raw / "Dataset501_ISLES2022"
    np.testing.assert_array_equal(
        voxels(target / "imagesTr/strokecase0002_0000.nii.gz"), sitk.GetArrayFromImage(volume(seed=2))
    )
    np.testing.assert_array_equal(voxels(target / "labelsTr/strokecase0002.nii.gz"), sitk.GetArrayFromImage(mask()))
    entries = json.loads((target / "dataset.json").read_text())
    assert entries["labels"] == {"background": 0, "lesion": 1} and entries["channel_names"] == {"0": "DWI"}
    said = capsys.readouterr().out
    assert "Training: 2 of 250 (248 missing: strokecase0003, strokecase0004" in said
    assert {"zenodo": "Zenodo release", "challenge": "challenge sample"}[layout] in said


@pytest.mark.parametrize(("ending", "upper"), [(".nii.gz", True), (".nii", False), (".nii", True)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_spellings_of_file_names(raw, tmp_path, build_isles, layout, ending, upper):
    usual = convert(build_isles(tmp_path / "usual", layout), 501, "dwi+adc")
    other = convert(build_isles(tmp_path / "other", layout, ending=ending, upper=upper), 502, "dwi+adc")
    same_files(usual, other)


@pytest.mark.parametrize(
    ("modality", "name", "channels"),
    [
        ("dwi", "ISLES2022", {"0": "DWI"}),
        ("adc", "ISLES2022_ADC", {"0": "ADC"}),
        ("flair", "ISLES2022_FLAIR", {"0": "FLAIR"}),
        ("dwi+adc", "ISLES2022_DWI_ADC", {"0": "DWI", "1": "ADC"}),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_modalities(raw, tmp_path, build_isles, modality, name, channels, layout):
    target = convert(build_isles(tmp_path, layout), 501, modality)
    assert target.name == f"Dataset501_{name}"
    assert json.loads((target / "dataset.json").read_text())["channel_names"] == channels
    assert json.loads((target / "provenance.json").read_text())["options"]["modality"] == modality
    assert len(list((target / "imagesTr").iterdir())) == 2 * len(channels)


def test_nnunet_finds_no_fault(raw, tmp_path, build_isles, capfd):
    verify_dataset_integrity(str(convert(build_isles(tmp_path), 501, "dwi+adc", processes=2)), 1)
    said = capfd.readouterr().out
    assert "Warning" not in said and "Error" not in said


def test_adc_comes_from_the_adc_file(raw, tmp_path, build_isles, volume):
    target = convert(build_isles(tmp_path), 501, "dwi+adc")
    np.testing.assert_array_equal(
        voxels(target / "imagesTr/strokecase0001_0001.nii.gz"), sitk.GetArrayFromImage(volume(seed=101))
    )


def test_flair_is_resampled_to_dwi_where_it_lies_in_space(raw, tmp_path, build_isles, volume, capsys):
    """A FLAIR that is linear in physical space has the same values at the same places on DWI's grid."""
    root = build_isles(tmp_path, n=1)
    flair = sitk.PhysicalPointSource(sitk.sitkVectorFloat32, (40, 30, 12), (-112.0, 75.0, -55.0), (0.5, 0.5, 2.0))
    write(sitk.VectorIndexSelectionCast(flair, 1), one(root, "*_FLAIR.nii.gz"))
    target = convert(root, 501, "flair")
    image = sitk.ReadImage(str(target / "imagesTr/strokecase0001_0000.nii.gz"))
    assert image.GetSize() == volume().GetSize()
    places = sitk.GetArrayFromImage(
        sitk.PhysicalPointSource(
            sitk.sitkVectorFloat32, image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()
        )
    )
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), places[..., 1], atol=1e-3)
    assert "not registered" in capsys.readouterr().out


def test_dwi_does_not_need_flair_nor_speak_of_it(raw, tmp_path, build_isles, capsys):
    convert(build_isles(tmp_path, flair=False), 501)
    assert "FLAIR" not in capsys.readouterr().out


def test_finding_cases_reads_and_writes_nothing(raw, tmp_path, build_isles):
    root = build_isles(tmp_path / "src")
    for path in root.rglob("*.nii.gz"):
        path.write_bytes(b"")
    cases = find(root).cases
    assert [case.identifier for case in cases] == ["strokecase0001", "strokecase0002"]
    assert [path.name[-10:] for path in cases[0].sources] == ["dwi.nii.gz", "msk.nii.gz"]
    assert list(raw.iterdir()) == []


def test_files_of_macos_are_not_images(raw, tmp_path, build_isles):
    root = build_isles(tmp_path / "src")
    dwi = one(root, "*case0001*_dwi.nii.gz")
    dwi.with_name("._" + dwi.name).write_bytes(b"\0" * 40)
    assert len(find(root).cases) == 2


@pytest.mark.parametrize(
    ("modality", "pattern", "said"),
    [
        ("dwi", "*case0002*_dwi.nii.gz", "sub-strokecase0002 has no DWI"),
        ("adc", "*case0002*_adc.nii.gz", "sub-strokecase0002 has no ADC"),
        ("dwi+adc", "*case0002*_adc.nii.gz", "sub-strokecase0002 has no ADC"),
        ("flair", "*case0002*_FLAIR.nii.gz", "sub-strokecase0002 has no FLAIR"),
        ("flair", "*case0002*_dwi.nii.gz", "sub-strokecase0002 has no DWI"),
        ("dwi", "*case0002*_msk.nii.gz", "sub-strokecase0002 has no mask"),
    ],
)
def test_missing_file_is_named(raw, tmp_path, build_isles, modality, pattern, said):
    root = build_isles(tmp_path / "src")
    one(root, pattern).unlink()
    assert said in fails(raw, root, 501, modality)


@pytest.mark.parametrize("part", ["derivatives/sub-strokecase0001", "sub-strokecase0001"])
def test_missing_subject_on_either_side_is_named(raw, tmp_path, build_isles, part):
    root = build_isles(tmp_path / "src")
    shutil.rmtree(root / part)
    assert "sub-strokecase0001 has no" in fails(raw, root, 501)


def test_two_files_for_one_image(raw, tmp_path, build_isles):
    root = build_isles(tmp_path / "src")
    dwi = one(root, "*case0001*_dwi.nii.gz")
    shutil.copy(dwi, dwi.with_name(dwi.name.replace("_dwi", "_DWI2_dwi")))
    assert "several files for DWI" in fails(raw, root, 501)


def test_truncated_mask(raw, tmp_path, build_isles):
    root = build_isles(tmp_path / "src")
    mask = one(root, "*case0002*_msk.nii.gz")
    mask.write_bytes(mask.read_bytes()[:-6])
    assert f"{mask} is damaged" in fails(raw, root, 501)


@pytest.mark.parametrize("modality", ["dwi", "flair"])
@pytest.mark.parametrize("value", [255.0, 0.9999, 2.0])
def test_mask_of_another_scale_is_the_same_mask(raw, tmp_path, build_isles, mask, provenance, value, modality):
    root = build_isles(tmp_path / "src")
    write(sitk.Cast(mask(), sitk.sitkFloat32) * value, one(root, "*case0002*_msk.nii.gz"))
    target = convert(root, 501, modality)
    np.testing.assert_array_equal(voxels(target / "labelsTr/strokecase0002.nii.gz"), sitk.GetArrayFromImage(mask()))
    noted = [] if value < 1 else [f"in the mask {value:g} stands for the lesion"]
    assert provenance(target)["strokecase0002"]["notes"] == noted


def test_mask_with_values_in_between_is_refused(raw, tmp_path, build_isles, mask):
    root = build_isles(tmp_path / "src")
    path = write(sitk.SmoothingRecursiveGaussian(sitk.Cast(mask(), sitk.sitkFloat32)), one(root, "*case0002*_msk.*"))
    assert path.name in fails(raw, root, 501)


def test_mask_on_flairs_grid(raw, tmp_path, build_isles, mask):
    root = build_isles(tmp_path / "src")
    write(mask(size=(14, 12, 3)), one(root, "*case0002*_msk.nii.gz"))
    sentence = fails(raw, root, 501, processes=2)
    assert "Case strokecase0002" in sentence and "size (14, 12, 3) against (7, 6, 5)" in sentence


def test_unknown_modality(raw, tmp_path, build_isles):
    assert "choose one of dwi, adc, flair, dwi+adc" in fails(raw, build_isles(tmp_path / "src"), 501, "t1")


def test_source_that_is_no_release(raw, tmp_path):
    assert "is not a folder" in fails(raw, tmp_path / "nowhere", 501)
    (tmp_path / "src").mkdir()
    assert f"{tmp_path / 'src'} is empty" in fails(raw, tmp_path / "src", 501)
    (tmp_path / "src" / "readme.txt").write_text("nothing")
    sentence = fails(raw, tmp_path / "src", 501)
    assert f"in {tmp_path / 'src'}" in sentence and "expected a folder derivatives beside" in sentence


def test_source_with_two_releases(raw, tmp_path, build_isles):
    build_isles(tmp_path / "src", "zenodo")
    build_isles(tmp_path / "src", "challenge")
    sentence = fails(raw, tmp_path / "src", 501)
    assert "several releases" in sentence and "ISLES-2022" in sentence and "dataset-ISLES22" in sentence


# Real images


@pytest.fixture
def real_challenge(real_isles, tmp_path) -> Path:
    """The real files in the challenge's layout and spelling."""
    root = tmp_path / "challenge"
    for path in real_isles.rglob("*.nii.gz"):
        subject, session = path.name.split("_")[:2]
        folder = root / ("derivatives" if path.name.endswith("_msk.nii.gz") else "rawdata") / subject / session
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name.replace("_FLAIR", "_flair")).symlink_to(path)
    return root


@pytest.mark.parametrize("modality", ["dwi", "adc", "dwi+adc"])
def test_real_cases_agree_between_layouts(raw, real_isles, real_challenge, modality):
    same_files(convert(real_isles, 501, modality), convert(real_challenge, 502, modality))


def test_nnunet_finds_no_fault_in_real_cases(raw, real_isles, capfd):
    verify_dataset_integrity(str(convert(real_isles, 501, "dwi+adc", processes=2)), 1)
    said = capfd.readouterr().out
    assert "Warning" not in said and "Error" not in said


def test_real_case_keeps_voxels_and_geometry(raw, real_isles):
    target = convert(real_isles.parent, 501)
    for label in sorted((target / "labelsTr").iterdir()):
        identifier = label.name.removesuffix(".nii.gz")
        for written, pattern in [
            (target / f"imagesTr/{identifier}_0000.nii.gz", f"sub-{identifier}_*_dwi.nii.gz"),
            (label, f"sub-{identifier}_*_msk.nii.gz"),
        ]:
            source, result = sitk.ReadImage(str(one(real_isles, pattern))), sitk.ReadImage(str(written))
            np.testing.assert_array_equal(
                sitk.GetArrayFromImage(source).astype(np.float32), sitk.GetArrayFromImage(result).astype(np.float32)
            )
            for getter in ("GetSpacing", "GetOrigin", "GetDirection"):
                np.testing.assert_allclose(getattr(source, getter)(), getattr(result, getter)(), atol=1e-5)


def test_real_case_without_flair_is_named(raw, real_isles):
    assert "sub-strokecase0001 has no FLAIR" in fails(raw, real_isles, 501, "flair")


def test_real_flair_overlaps_dwi(raw, real_isles, tmp_path):
    """The resampled FLAIR shows the same head: where DWI has tissue, FLAIR has it too."""
    complete = tmp_path / "complete"
    for part in ("sub-strokecase0009", "derivatives/sub-strokecase0009"):
        shutil.copytree(real_isles / part, complete / part)
    flair, dwi = convert(complete, 501, "flair"), convert(complete, 502)
    same_grid = [sitk.ReadImage(str(f / "imagesTr/strokecase0009_0000.nii.gz")) for f in (flair, dwi)]
    assert same_grid[0].GetSize() == same_grid[1].GetSize()
    heads = [sitk.GetArrayFromImage(sitk.OtsuThreshold(image, 0, 1)).astype(bool) for image in same_grid]
    assert 2 * (heads[0] & heads[1]).sum() / (heads[0].sum() + heads[1].sum()) > 0.8
