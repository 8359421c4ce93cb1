import fcntl
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from dataset_conversion.cases import Case, Content, Piece
from dataset_conversion.common import write_dataset
from dataset_conversion.raw_dataset import read_raw_dataset
from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from nnunet_sfma.subjects import declared_subjects
from tests.dataset_conversion.releases import write

LABELS = {"background": 0, "lesion": 1}
DWI = {"0": "DWI"}


@pytest.fixture
def case(tmp_path, volume, mask):
    """Makes a case from files, of which single ones can be replaced."""

    def make(identifier="a", image=None, label=None, more_images=()):
        folder = tmp_path / "source"
        images = [image if image is not None else volume(), *more_images]
        files = [write(i, folder / f"{identifier}_image{index}.nii.gz") for index, i in enumerate(images)]
        return Case.from_files(identifier, files, write(label or mask(), folder / f"{identifier}_mask.nii.gz"))

    return make


def fails(raw, cases, *args, channels=DWI, **kwargs):
    """The sentence with which a conversion fails, once it is sure that nothing new lies in nnUNet_raw."""
    before = sorted(raw.rglob("*")) if raw.is_dir() else None
    with pytest.raises(UserError) as error:
        write_dataset(*(args or (5, "Test")), cases, channels, LABELS, **kwargs)
    assert (sorted(raw.rglob("*")) if raw.is_dir() else None) == before
    sentence = str(error.value)
    assert sentence and "\n" not in sentence
    return sentence


# What is written


def test_dataset_is_complete_for_nnunet(raw, case, capsys):
    target = write_dataset(5, "Test", [case("a"), case("b")], DWI, LABELS)
    assert target == raw / "Dataset005_Test"
    assert sorted(path.name for path in raw.iterdir()) == ["Dataset005_Test"]
    verify_dataset_integrity(str(target), 1)
    entries = json.loads((target / "dataset.json").read_text())
    assert entries["channel_names"] == DWI and entries["labels"] == LABELS and entries["numTraining"] == 2
    assert "2 training cases" in capsys.readouterr().out


def test_voxels_and_geometry_are_carried_over(raw, case, volume, mask):
    target = write_dataset(5, "Test", [case()], DWI, LABELS)
    image, label = sitk.ReadImage(target / "imagesTr/a_0000.nii.gz"), sitk.ReadImage(target / "labelsTr/a.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(volume()))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), sitk.GetArrayFromImage(mask()))
    assert label.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_allclose(image.GetSpacing(), volume().GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), volume().GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(image.GetDirection(), volume().GetDirection(), atol=1e-6)
    affines = [nibabel.load(target / name).affine for name in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")]
    np.testing.assert_array_equal(*affines)


def test_a_copy_of_what_was_written_has_the_very_same_grid(raw, case, volume, tmp_path):
    image = volume()
    image.SetDirection((0.36, 0.48, -0.8, -0.8, 0.6, 0.0, 0.48, 0.64, 0.6))
    image.SetOrigin((1 / 3, -100 / 7, 52.123456789))
    folder = write_dataset(1, "Oblique", [case(image=image, label=with_grid(volume, image))], DWI, LABELS)
    written = sitk.ReadImage(str(folder / "imagesTr" / "a_0000.nii.gz"))
    sitk.WriteImage(written, str(tmp_path / "copy.nii.gz"))
    copy = sitk.ReadImage(str(tmp_path / "copy.nii.gz"))
    for getter in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(copy, getter)() == getattr(written, getter)()


def with_grid(volume, image):
    label = sitk.Cast(volume() > 1e9, sitk.sitkUInt8)
    label.CopyInformation(image)
    return label


def test_float_noise_between_grids_is_accepted_and_removed(raw, case, volume, mask):
    noisy = mask()
    noisy.SetOrigin([value + 5e-4 for value in noisy.GetOrigin()])
    target = write_dataset(5, "Test", [case(label=noisy)], DWI, LABELS)
    image, label = nibabel.load(target / "imagesTr/a_0000.nii.gz"), nibabel.load(target / "labelsTr/a.nii.gz")
    np.testing.assert_array_equal(image.affine, label.affine)


def test_orientation_codes_and_text_of_the_source_do_not_survive(raw, case, mask):
    odd = mask()
    odd.SetMetaData("qform_code", "0")
    odd.SetMetaData("qform_code_name", "NIFTI_XFORM_UNKNOWN")
    odd.SetMetaData("descrip", "John Doe")
    target = write_dataset(5, "Test", [case(label=odd)], DWI, LABELS)
    image, label = (nibabel.load(target / f).header for f in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"))
    assert image["qform_code"] == label["qform_code"] and image["sform_code"] == label["sform_code"]
    assert b"Doe" not in label["descrip"].tobytes()


def test_double_becomes_float_and_integers_stay(raw, case, volume):
    double = sitk.Cast(volume(), sitk.sitkFloat64)
    short = sitk.Cast(volume(), sitk.sitkInt16)
    target = write_dataset(5, "Test", [case("a", double), case("b", short)], DWI, LABELS)
    assert sitk.ReadImage(target / "imagesTr/a_0000.nii.gz").GetPixelID() == sitk.sitkFloat32
    assert sitk.ReadImage(target / "imagesTr/b_0000.nii.gz").GetPixelID() == sitk.sitkInt16


def test_channels_are_numbered(raw, case, volume):
    two = case(more_images=[volume(seed=1)])
    target = write_dataset(5, "Test", [two], {"0": "DWI", "1": "ADC"}, LABELS)
    second = sitk.GetArrayFromImage(sitk.ReadImage(target / "imagesTr/a_0001.nii.gz"))
    np.testing.assert_array_equal(second, sitk.GetArrayFromImage(volume(seed=1)))


def test_test_cases_with_and_without_label(raw, case, volume, capsys):
    unlabelled = Case("u", lambda: ([volume()], None))
    target = write_dataset(5, "Test", [case("a")], DWI, LABELS, test_cases=[case("t"), unlabelled])
    assert sorted(p.name for p in (target / "imagesTs").iterdir()) == ["t_0000.nii.gz", "u_0000.nii.gz"]
    assert [p.name for p in (target / "labelsTs").iterdir()] == ["t.nii.gz"]
    assert "1 training and 2 test cases" in capsys.readouterr().out


def test_no_labels_ts_without_test_labels(raw, case, volume):
    unlabelled = Case("u", lambda: ([volume()], None))
    target = write_dataset(5, "Test", [case("a")], DWI, LABELS, test_cases=[unlabelled])
    assert not (target / "labelsTs").exists()


def test_empty_label_is_allowed_and_reported(raw, case, mask, capsys):
    target = write_dataset(5, "Test", [case("a"), case("b", label=mask(empty=True))], DWI, LABELS)
    assert "1 with an empty label (b)" in capsys.readouterr().out
    cases = json.loads((target / "provenance.json").read_text())["cases"]
    assert [cases[name]["empty_label"] for name in "ab"] == [False, True]


def test_provenance_names_sources_by_checksum_and_options(raw, case):
    made = case()
    target = write_dataset(5, "Test", [made], DWI, LABELS, provenance={"modality": "dwi"})
    entries = json.loads((target / "provenance.json").read_text())
    assert entries["options"] == {"modality": "dwi"} and entries["converted_by"].startswith("nnunet-sfma ")
    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made.sources}
    assert entries["cases"]["a"]["sha256"] == expected
    assert Path(entries["source_folder"]) == made.sources[0].parent


def test_generated_cases_need_no_files(raw, volume, mask):
    target = write_dataset(5, "Test", [Case("a", lambda: ([volume()], mask()))], DWI, LABELS)
    assert json.loads((target / "provenance.json").read_text())["source_folder"] is None


def test_pictures_keep_their_colours(raw):
    colours = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    label = (colours[..., 0] > 128).astype(np.uint8)
    picture = sitk.GetImageFromArray(colours, isVector=True)
    case = Case("a", lambda: ([picture], sitk.GetImageFromArray(label)))
    channels = {"0": "R", "1": "G", "2": "B"}
    target = write_dataset(5, "Test", [case], channels, LABELS, file_ending=".png")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(target / "imagesTr/a_0000.png")), colours)
    verify_dataset_integrity(str(target), 1)


def test_workers_write_the_same_as_one_process(raw, case):
    cases = [case("a"), case("b"), case("c")]
    one = write_dataset(5, "Test", cases, DWI, LABELS)
    two = write_dataset(6, "Test", cases, DWI, LABELS, processes=2)
    for path in sorted(one.rglob("*.nii.gz")):
        assert gzip.decompress(path.read_bytes()) == gzip.decompress((two / path.relative_to(one)).read_bytes())
    provenances = [json.loads((folder / "provenance.json").read_text()) for folder in (one, two)]
    assert provenances[0]["cases"] == provenances[1]["cases"]


def test_provenance_tells_what_folds_need_of_each_case(raw, case):
    made = case("a")
    told = Case("b", made.load, made.sources, part="Validation", subject="s1", stratum="benign")
    target = write_dataset(5, "Test", [made, told], DWI, LABELS)
    entries = json.loads((target / "provenance.json").read_text())["cases"]
    twelve_voxels = 12 * 0.9 * 1.1 * 2.5
    assert entries["a"]["foreground"] == pytest.approx(twelve_voxels, rel=1e-4)
    properties = ("split", "part", "subject", "stratum", "notes")
    assert [entries["a"][key] for key in properties] == ["Tr", "Training", "a", None, []]
    assert [entries["b"][key] for key in properties] == ["Tr", "Validation", "s1", "benign", []]


def test_notes_are_told_once_with_the_cases_that_they_hold_for(raw, volume, mask, capsys):
    noted = [Case(name, lambda: Content([volume()], mask(), notes=["its header was mended"])) for name in "ab"]
    target = write_dataset(5, "Test", noted, DWI, LABELS)
    assert "2 cases (a, b): its header was mended." in capsys.readouterr().out
    cases = json.loads((target / "provenance.json").read_text())["cases"]
    assert cases["b"]["notes"] == ["its header was mended"]


def test_extra_label_maps_lie_beside_on_the_images_grid(raw, volume, mask):
    extra = Case("a", lambda: Content([volume()], mask(), {"instances": mask(value=300)}))
    target = write_dataset(5, "Test", [extra], DWI, LABELS, test_cases=[Case("t", extra.load)])
    kept = sitk.ReadImage(target / "instancesTr/a.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(kept), sitk.GetArrayFromImage(mask(value=300)))
    assert kept.GetDirection() == sitk.ReadImage(target / "imagesTr/a_0000.nii.gz").GetDirection()
    assert (target / "instancesTs/t.nii.gz").is_file()


def halves(content):
    """Cuts a volume into two along z."""
    for suffix, part in (("_low", slice(0, 2)), ("_high", slice(2, None))):
        yield Piece(suffix, [content.images[0][:, :, part]], content.label[:, :, part])


def test_pieces_of_a_case_are_cases_of_nnunet(raw, case, mask):
    target = write_dataset(5, "Test", [case("a")], DWI, LABELS, cut=halves)
    assert sorted(path.name for path in (target / "labelsTr").iterdir()) == ["a_high.nii.gz", "a_low.nii.gz"]
    assert json.loads((target / "dataset.json").read_text())["numTraining"] == 2
    entry = json.loads((target / "provenance.json").read_text())["cases"]["a"]
    assert entry["slices"] == ["a_low", "a_high"] and entry["grid"]["size"] == [7, 6, 5]


def test_overwrite_replaces_only_after_success(raw, case, mask):
    target = write_dataset(5, "Test", [case("a")], DWI, LABELS)
    assert "outside" not in fails(raw, [case("b", label=mask(value=7))], overwrite=True)
    assert (target / "labelsTr/a.nii.gz").is_file()
    write_dataset(5, "Test", [case("c")], DWI, LABELS, overwrite=True)
    assert [path.name for path in (target / "labelsTr").iterdir()] == ["c.nii.gz"]
    assert [path.name for path in raw.iterdir()] == [target.name]


# What is refused


def test_raw_folder_not_set(raw, case, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    assert "nnUNet_raw is not set" in fails(raw, [case()])


def test_raw_folder_missing(raw, case, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "nowhere"))
    sentence = fails(raw, [case()])
    assert str(tmp_path / "nowhere") in sentence and "is not a folder" in sentence


def test_raw_folder_not_writable(raw, case, monkeypatch):
    # Root may write anywhere but here.
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs a folder in which nobody can write")
    monkeypatch.setenv("nnUNet_raw", "/proc/self/task")
    assert "nnUNet_raw=/proc/self/task is not writable" in fails(raw, [case()])


@pytest.mark.parametrize("dataset_id", [-1, 0, 1000])
def test_id_out_of_range(raw, case, dataset_id):
    assert f"{dataset_id} is outside 1 to 999" in fails(raw, [case()], dataset_id, "Test")


@pytest.mark.parametrize("name", ["", "a/b", "../a", "with space"])
def test_name_that_is_no_folder_name(raw, case, name):
    assert f"'{name}' cannot be a dataset's name" in fails(raw, [case()], 5, name)


def test_target_exists(raw, case):
    (raw / "Dataset005_Test").mkdir()
    sentence = fails(raw, [case()])
    assert "Dataset005_Test already exists" in sentence and "--overwrite" in sentence


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_id_belongs_to_another_dataset(raw, case, variable, tmp_path, monkeypatch):
    if variable != "nnUNet_raw":
        monkeypatch.setenv(variable, str(tmp_path / variable))
    Path(os.environ[variable], "Dataset005_Other").mkdir(parents=True)
    sentence = fails(raw, [case()], overwrite=True)
    assert "5 already belongs to Dataset005_Other" in sentence


def snapshot(folder):
    """Everything below a folder, with the times at which it was written."""
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_what_is_there_already_is_not_written_again(raw, case, capsys):
    cases = [case("a"), case("b")]
    target = write_dataset(5, "Test", cases, DWI, LABELS, provenance={"size": 3})
    before = snapshot(raw)
    assert write_dataset(5, "Test", cases, DWI, LABELS, provenance={"size": 3}) == target
    assert snapshot(raw) == before
    assert "is complete" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["options", "more cases", "file", "subject"])
def test_target_made_from_something_else(raw, case, change):
    made = case("a")
    write_dataset(5, "Test", [made], DWI, LABELS, provenance={"size": 3})
    if change == "file":
        made.sources[0].write_bytes(made.sources[0].read_bytes() + b"0")
    cases = {
        "more cases": [made, case("b")],
        "subject": [Case("a", made.load, made.sources, subject="s1")],
    }.get(change, [made])
    sentence = fails(raw, cases, provenance={"size": 4 if change == "options" else 3})
    assert "other files or with other options" in sentence and "--overwrite" in sentence


@pytest.mark.parametrize("lost", ["imagesTr/a_0000.nii.gz", "labelsTr", "provenance.json"])
def test_target_that_lost_something(raw, case, lost):
    made = case("a")
    target = write_dataset(5, "Test", [made], DWI, LABELS)
    path = target / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    sentence = fails(raw, [made])
    assert "already exists" in sentence and "--overwrite" in sentence
    assert lost == "provenance.json" or lost.split("/")[0] in sentence


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


FAULTS = {
    "labelsTr/a.nii.gz is empty": lambda target: (target / "labelsTr/a.nii.gz").write_bytes(b""),
    "imagesTr/b_0000.nii.gz was changed": lambda target: cut_in_half(target / "imagesTr/b_0000.nii.gz"),
    "labelsTr/b.nii.gz was changed": lambda target: shutil.copy(
        target / "labelsTr/a.nii.gz", target / "labelsTr/b.nii.gz"
    ),
    "dataset.json is missing": lambda target: (target / "dataset.json").unlink(),
    "dataset.json is damaged": lambda target: cut_in_half(target / "dataset.json"),
    "dataset.json has other labels": lambda target: change_labels(target / "dataset.json"),
    "splits_final.json with the folds by subject is missing": lambda target: (target / "splits_final.json").unlink(),
    "SHA256SUMS is damaged": lambda target: cut_in_half(target / "SHA256SUMS"),
}


def change_labels(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "labels": {"background": 0, "tumour": 1}}))


@pytest.mark.parametrize("fault", FAULTS)
def test_target_whose_files_are_not_what_was_written(raw, case, mask, fault):
    cases = [case("a"), case("b", label=mask(empty=True))]
    FAULTS[fault](write_dataset(5, "Test", cases, DWI, LABELS))
    sentence = fails(raw, cases)
    assert fault in sentence and "not as it was converted" in sentence and "--overwrite" in sentence
    target = write_dataset(5, "Test", cases, DWI, LABELS, overwrite=True)
    assert write_dataset(5, "Test", cases, DWI, LABELS) == target


def test_all_files_at_fault_are_named(raw, case):
    cases = [case("a"), case("b")]
    target = write_dataset(5, "Test", cases, DWI, LABELS)
    for name in ("labelsTr/a.nii.gz", "labelsTr/b.nii.gz"):
        (target / name).write_bytes(b"")
    assert "(labelsTr/a.nii.gz is empty, labelsTr/b.nii.gz is empty)" in fails(raw, cases)


def test_checksums_are_those_of_sha256sum(raw, case):
    target = write_dataset(5, "Test", [case("a")], DWI, LABELS)
    lines = [f"{hashlib.sha256((target / name).read_bytes()).hexdigest()}  {name}" for name in written(target)]
    assert (target / "SHA256SUMS").read_text().splitlines() == lines and len(lines) == 2


def written(target):
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*.nii.gz"))


def test_data_set_of_an_earlier_version_is_checked_as_far_as_it_can_be(raw, case, capsys):
    """It has no checksums: a file that can be read to its end is taken for the one that was written."""
    cases = [case("a"), case("b")]
    target = write_dataset(5, "Test", cases, DWI, LABELS)
    for name in ("SHA256SUMS", "splits_final.json"):
        (target / name).unlink()
    write_dataset(5, "Test", cases, DWI, LABELS)
    said = capsys.readouterr().out
    assert "is complete" in said and "no folds by subject" in said and "splits -d 5 --scheme five-fold" in said
    cut_in_half(target / "imagesTr/a_0000.nii.gz")
    (target / "labelsTr/b.nii.gz").write_bytes(b"")
    assert "(imagesTr/a_0000.nii.gz is damaged, labelsTr/b.nii.gz is empty)" in fails(raw, cases)
    (target / "labelsTr/b.nii.gz").unlink()
    assert "labelsTr holds 1 of 2 files" in fails(raw, cases)


def test_leftovers_of_a_killed_conversion_do_not_hinder(raw, case, capsys):
    left = raw / ".Dataset005_Test.unfinished"
    (left / "imagesTr").mkdir(parents=True)
    (left / "imagesTr" / "stale_0000.nii.gz").write_bytes(b"half")
    (left / "dataset.json").write_text("{")
    (left / "link").symlink_to(left / "imagesTr")
    target = write_dataset(5, "Test", [case("a")], DWI, LABELS)
    assert [path.name for path in raw.iterdir()] == [target.name]
    assert [path.name for path in (target / "imagesTr").iterdir()] == ["a_0000.nii.gz"]
    assert str(left) in capsys.readouterr().out


def test_overwrite_keeps_the_subjects_that_the_user_declared(raw, case):
    target = write_dataset(5, "Test", [case("a"), case("b")], DWI, LABELS)
    (target / "subjects.json").write_text('{"a": "one", "b": "one"}')
    write_dataset(5, "Test", [case("a"), case("b")], DWI, LABELS, overwrite=True)
    assert declared_subjects(target) == {"a": "one", "b": "one"}
    assert {member.subject for member in read_raw_dataset(target).training} == {"one"}


def test_replacement_that_was_killed_is_put_right(raw, case):
    """Killed while it removed the old data set, or between the two renames, when only the hidden name was left."""
    replaced = raw / ".Dataset005_Test.replaced"
    write_dataset(5, "Test", [case("a")], DWI, LABELS)
    (replaced / "labelsTr").mkdir(parents=True)
    write_dataset(5, "Test", [case("b")], DWI, LABELS, overwrite=True)
    assert [path.name for path in raw.iterdir()] == ["Dataset005_Test"]
    (raw / "Dataset005_Test").rename(replaced)
    with pytest.raises(UserError):
        write_dataset(5, "Test", [Case("c", lambda: ([], None))], DWI, LABELS)
    assert [path.name for path in (raw / "Dataset005_Test" / "labelsTr").iterdir()] == ["b.nii.gz"]
    assert [path.name for path in raw.iterdir()] == ["Dataset005_Test"]


def test_cases_of_one_subject_get_folds_of_their_own(raw, volume, mask, monkeypatch, tmp_path, capsys):
    """nnU-Net's planner takes them from the raw data set; what somebody made for it before is left alone."""
    cases = [Case(f"s{i}_{t}", lambda: ([volume()], mask()), subject=f"s{i}") for i in range(6) for t in (0, 1)]
    folds = json.loads((write_dataset(5, "Test", cases, DWI, LABELS) / "splits_final.json").read_text())
    assert len(folds) == 5
    for fold in folds:
        sides = [{case.split("_")[0] for case in fold[side]} for side in ("train", "val")]
        assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 6
    own = tmp_path / "preprocessed" / "Dataset006_Own"
    own.mkdir(parents=True)
    (own / "splits_final.json").write_text("[]")
    monkeypatch.setenv("nnUNet_preprocessed", str(own.parent))
    assert not (write_dataset(6, "Own", cases, DWI, LABELS) / "splits_final.json").exists()
    assert "nnunet-sfma splits -d 006 --check" in capsys.readouterr().out


def test_folds_that_were_shipped_are_known_whomever_the_user_declares(raw, volume, mask, monkeypatch, tmp_path):
    for name in ("preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    cases = [Case(f"s{i}_{t}", lambda: ([volume()], mask()), subject=f"s{i}") for i in range(3) for t in (0, 1)]
    target = write_dataset(5, "Test", cases, DWI, LABELS)
    (target / "subjects.json").write_text(json.dumps({case.identifier: case.identifier for case in cases}))
    shipped = (target / "splits_final.json").read_bytes()
    (target / "splits_final.json").unlink()
    assert "splits_final.json with the folds by subject is missing" in fails(raw, cases)
    (target / "splits_final.json").write_bytes(shipped)
    main(["splits", "-d", "5", "--scheme", "five-fold"])
    assert sum(len(fold["val"]) for fold in json.loads((target / "splits_final.json").read_text())) == len(cases)
    assert (target / "splits_final.json").read_bytes() != shipped
    with pytest.raises(UserError, match="exists and differs"):
        main(["splits", "-d", "5", "--scheme", "five-fold", "--seed", "1"])


def test_cases_that_are_subjects_are_left_to_nnunets_folds(raw, volume, mask):
    cases = [Case(f"s{i}", lambda: ([volume()], mask())) for i in range(6)]
    assert not (write_dataset(5, "Test", cases, DWI, LABELS) / "splits_final.json").exists()


@pytest.mark.parametrize("scans", [1, 2])
def test_fewer_than_five_subjects_get_as_many_folds(raw, volume, mask, capsys, scans):
    cases = [Case(f"s{i}_{t}", lambda: ([volume()], mask()), subject=f"s{i}") for i in range(3) for t in range(scans)]
    folds = json.loads((write_dataset(5, "Test", cases, DWI, LABELS) / "splits_final.json").read_text())
    assert sorted(tuple(sorted({case[:2] for case in fold["val"]})) for fold in folds) == [("s0",), ("s1",), ("s2",)]
    assert all(len(fold["val"]) == scans and len(fold["train"]) == 2 * scans for fold in folds)
    assert "3 subjects are too few for five folds: there are 3; train folds 0 to 2." in capsys.readouterr().out


def test_cases_of_a_single_subject_cannot_be_divided_and_that_is_said(raw, volume, mask, capsys):
    cases = [Case(f"s0_{t}", lambda: ([volume()], mask()), subject="s0") for t in range(6)]
    assert not (write_dataset(5, "Test", cases, DWI, LABELS) / "splits_final.json").exists()
    assert "All 6 training cases show one subject" in capsys.readouterr().out


def test_folder_that_another_conversion_holds(raw, case):
    held = raw / ".Dataset005_Test.unfinished"
    (held / "imagesTr").mkdir(parents=True)
    descriptor = os.open(held, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        sentence = fails(raw, [case()])
    finally:
        os.close(descriptor)
    assert f"{held} is in use" in sentence
    write_dataset(5, "Test", [case()], DWI, LABELS)


def test_no_cases(raw):
    assert "no training cases" in fails(raw, [])


def test_duplicate_identifiers(raw, case):
    assert "identifier a occurs more than once" in fails(raw, [case(), case()])
    assert "identifier a occurs more than once" in fails(raw, [case()], test_cases=[case()])


def test_identifier_that_is_no_file_name(raw, volume, mask):
    assert "'a/b' cannot name a case" in fails(raw, [Case("a/b", lambda: ([volume()], mask()))])


def test_sources_inside_the_dataset_to_be_replaced(raw, case, volume, mask):
    target = write_dataset(5, "Test", [case()], DWI, LABELS)
    own = Case.from_files("a", [target / "imagesTr/a_0000.nii.gz"], target / "labelsTr/a.nii.gz")
    assert "lies inside" in fails(raw, [own], overwrite=True)


def test_training_case_without_label(raw, volume):
    assert "Case a has no label" in fails(raw, [Case("a", lambda: ([volume()], None))])


def test_missing_file(raw, case):
    made = case()
    made.sources[0].unlink()
    assert f"{made.sources[0]} does not exist" in fails(raw, [made])


def test_file_that_is_no_image(raw, case):
    made = case()
    made.sources[0].write_bytes(b"404: not found" * 50)
    assert f"{made.sources[0]} cannot be read" in fails(raw, [made])


@pytest.mark.parametrize("keep", [0.5, 0.9, -4])
@pytest.mark.parametrize("which", [0, 1])
def test_truncated_gz(raw, case, volume, mask, keep, which):
    """ITK itself reads such files in silence."""
    size = (40, 30, 20)
    made = case(image=volume(size=size), label=mask(size=size))
    whole = made.sources[which].read_bytes()
    made.sources[which].write_bytes(whole[: int(len(whole) * keep) if keep > 0 else keep])
    sentence = fails(raw, [made])
    assert str(made.sources[which]) in sentence and "intact copy" in sentence


def test_truncated_uncompressed_file(raw, tmp_path, volume, mask):
    image = write(volume(), tmp_path / "image.nii")
    label = write(mask(), tmp_path / "mask.nii")
    whole = image.read_bytes()
    image.write_bytes(whole[:-10])
    sentence = fails(raw, [Case.from_files("a", [image], label)])
    assert f"{len(whole) - 10} of {len(whole)} bytes" in sentence and str(image) in sentence


def test_flipped_bit(raw, case, volume, mask):
    made = case(image=volume(size=(40, 30, 20)), label=mask(size=(40, 30, 20)))
    broken = bytearray(made.sources[0].read_bytes())
    broken[len(broken) // 2] ^= 0x10
    made.sources[0].write_bytes(broken)
    assert str(made.sources[0]) in fails(raw, [made])


@pytest.mark.parametrize("processes", [1, 2])
def test_all_damaged_files_and_wrong_cases_are_named_in_one_run(raw, case, mask, processes):
    cases = [case(name, label=mask(value=7) if name == "c" else None) for name in "abcd"]
    damaged = [*cases[0].sources, cases[3].sources[1]]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-9])
    sentence = fails(raw, cases, processes=processes)
    assert sentence.startswith("3 of 4 cases cannot be converted: (1) The image ") and "(4) " in sentence
    assert all(f"The image {path} is damaged" in sentence for path in damaged)
    assert "Case c (c_image0.nii.gz, c_mask.nii.gz) has the label values (7)" in sentence


def test_of_many_damaged_files_twenty_are_named(raw, case):
    cases = [case(f"c{number}") for number in range(11)]
    for each in cases:
        for path in each.sources:
            path.write_bytes(b"404")
    sentence = fails(raw, cases)
    assert "11 of 11 cases" in sentence and "(20) " in sentence and "(21)" not in sentence and "And 2 more." in sentence


def turned(image):
    """The same volume with its axes in another order: z, x, y."""
    return sitk.PermuteAxes(image, [2, 0, 1])


def test_volumes_in_another_order_of_axes_are_named(raw, case, volume, mask, capsys):
    odd = case("b", turned(volume()), turned(mask()))
    target = write_dataset(5, "Test", [case("a"), odd, case("c")], DWI, LABELS, test_cases=[case("t")])
    note = "the axes of its images lie in the order SRA, those of 3 other cases in the order RAS"
    assert f"1 cases (b): {note}" in capsys.readouterr().out
    notes = {
        name: entry["notes"] for name, entry in json.loads((target / "provenance.json").read_text())["cases"].items()
    }
    assert note in notes.pop("b")[0] and set(map(tuple, notes.values())) == {()}


def test_axes_that_only_run_the_other_way_are_no_other_order(raw, case, volume, mask, capsys):
    flipped = case("b", volume()[::-1, :, ::-1], mask()[::-1, :, ::-1])
    write_dataset(5, "Test", [case("a"), flipped], DWI, LABELS)
    assert "in the order" not in capsys.readouterr().out


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kind", ["complex numbers", "3 numbers for each voxel"])
def test_voxels_that_are_no_single_real_numbers(raw, case, volume, which, kind):
    made = case()
    real = volume()
    write(
        sitk.RealAndImaginaryToComplex(real, real) if kind == "complex numbers" else sitk.Compose(real, real, real),
        made.sources[which],
    )
    assert f"{made.sources[which]} h" in (sentence := fails(raw, [made])) and kind in sentence


def other_grid(image, prop):
    if prop == "origin":
        image.SetOrigin([value + 0.01 for value in image.GetOrigin()])
    elif prop == "spacing":
        image.SetSpacing([value * 1.01 for value in image.GetSpacing()])
    elif prop == "direction":
        image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
    return image


@pytest.mark.parametrize("prop", ["size", "spacing", "origin", "direction"])
def test_label_on_another_grid(raw, case, mask, prop):
    label = other_grid(mask(size=(7, 6, 6) if prop == "size" else (7, 6, 5)), prop)
    sentence = fails(raw, [case(label=label)])
    assert sentence.startswith("Case a (a_image0.nii.gz, a_mask.nii.gz): label and image lie on different grids")
    assert prop in sentence and " against " in sentence


@pytest.mark.parametrize("prop", ["size", "spacing", "origin", "direction"])
def test_channels_on_different_grids(raw, case, volume, prop):
    second = other_grid(volume(size=(7, 6, 6) if prop == "size" else (7, 6, 5)), prop)
    sentence = fails(raw, [case(more_images=[second])], channels={"0": "DWI", "1": "ADC"})
    assert sentence.startswith("Case a (") and f"channels on different grids ({prop}" in sentence


def test_wrong_number_of_channels(raw, case):
    assert "1 channels where the dataset has 2" in fails(raw, [case()], channels={"0": "DWI", "1": "ADC"})


@pytest.mark.parametrize("channel", [0, 1])
def test_channel_of_zeros_only(raw, case, volume, channel):
    zeros = volume(np.zeros((5, 6, 7), np.float32))
    made = case("a", *((zeros, None, [volume()]) if channel == 0 else (None, None, [zeros])))
    sentence = fails(raw, [made], channels={"0": "DWI", "1": "ADC"})
    assert (
        sentence.startswith("Case a (a_image0.nii.gz, a_image1.nii.gz")
        and f"only zeros in channel {channel}" in sentence
    )


def test_label_value_that_is_not_declared(raw, case, mask):
    sentence = fails(raw, [case("a"), case("b", label=mask(value=7))])
    assert "Case b" in sentence and "label values (7), but only (0, 1)" in sentence


def test_fractional_label(raw, case, mask):
    half = sitk.Cast(mask(), sitk.sitkFloat32) * 0.5
    assert "label values (0.5)" in fails(raw, [case(label=half)])


def test_label_with_several_components(raw, volume, mask):
    colour = sitk.Compose(mask(), mask(), mask())
    assert "3 components" in fails(raw, [Case("a", lambda: ([volume()], colour))])


def test_time_series(raw, case):
    series = sitk.GetImageFromArray(np.zeros((2, 5, 6, 7), np.float32), isVector=False)
    assert "image of size (7, 6, 5, 2)" in fails(raw, [case(image=series)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("pixel", [sitk.sitkFloat32, sitk.sitkFloat64])
def test_voxels_in_a_file_that_are_not_finite(raw, case, volume, bad, everywhere, pixel):
    """ITK itself reads them as 0."""
    array = sitk.GetArrayFromImage(volume())
    array[slice(None) if everywhere else (2, 3, 4)] = bad
    sentence = fails(raw, [case(image=sitk.Cast(volume(array), pixel))])
    assert f"a_image0.nii.gz has {array.size if everywhere else 1} NaN or infinite voxels" in sentence


def test_voxels_in_a_big_endian_file_that_are_not_finite(raw, case, volume):
    made = case()
    array = sitk.GetArrayFromImage(volume()).T.astype(">f4")
    header = nibabel.Nifti1Header(endianness=">")
    affine = nibabel.load(made.sources[0]).affine
    nibabel.save(nibabel.Nifti1Image(array, affine, header), made.sources[0])
    write_dataset(5, "Test", [made], DWI, LABELS)
    array[4, 3, 2] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, affine, header), made.sources[0])
    assert "has 1 NaN or infinite voxels" in fails(raw, [made], 6, "Test")


def test_generated_voxels_that_are_not_finite(raw, volume, mask):
    array = sitk.GetArrayFromImage(volume())
    array[2, 3, 4] = np.nan
    assert "1 NaN or infinite voxels in channel 0" in fails(raw, [Case("a", lambda: ([volume(array)], mask()))])


def test_sentence_comes_through_from_a_worker(raw, case, mask):
    """A UserError is a SystemExit, which must neither end the worker nor hang the parent."""
    cases = [case("a"), case("b", label=mask(value=7)), case("c"), case("d")]
    assert fails(raw, cases) == fails(raw, cases, processes=2)


def test_killed_worker(raw, case):
    assert "worker process ended unexpectedly" in fails(raw, [case(), Case("b", partial(os._exit, 9))], processes=2)


# Failures from outside

LIMITED = """
import resource, sys
from pathlib import Path
from dataset_conversion.cases import Case, Content, Piece
from dataset_conversion.common import write_dataset
from dataset_conversion.raw_dataset import read_raw_dataset
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
case = Case.from_files("a", [Path(sys.argv[3])], Path(sys.argv[4]))
write_dataset(5, "Test", [case], {"0": "DWI"}, {"background": 0, "lesion": 1}, processes=int(sys.argv[2]))
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_disk_full_while_writing_images(raw, case, volume, mask, processes):
    """ITK's NIfTI writer raises nothing when the file system takes only a part of the file."""
    made = case(image=volume(size=(40, 30, 20)), label=mask(size=(40, 30, 20)))
    arguments = ["20000", str(processes), *map(str, made.sources)]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Writing a_0000.nii.gz failed" in done.stderr.splitlines()[-1]
    assert list(raw.iterdir()) == []


def test_disk_full_while_writing_json(raw, case, volume, mask):
    made = case(image=volume(np.ones((5, 6, 7), np.float32)))
    arguments = ["400", "1", *map(str, made.sources)]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Dataset005_Test could not be written" in done.stderr.splitlines()[-1]
    assert list(raw.iterdir()) == []


SLOW = """
import signal, sys, time
from functools import partial
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from dataset_conversion.cases import Case, Content, Piece
from dataset_conversion.common import write_dataset
from dataset_conversion.raw_dataset import read_raw_dataset
cases = [Case(f"c{i}", partial(time.sleep, float(sys.argv[2]))) for i in range(50)]
write_dataset(5, "Test", cases, {"0": "DWI"}, {"background": 0, "lesion": 1}, processes=int(sys.argv[1]))
"""


@pytest.mark.parametrize(("processes", "seconds"), [(1, 60), (2, 12)])
def test_ctrl_c_even_twice(raw, processes, seconds):
    """A terminal sends it to all processes; a worker ends the case it is at, and a pool's shutdown must not hang."""
    command = [sys.executable, "-c", SLOW, str(processes), str(seconds)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    hidden = raw / ".Dataset005_Test.unfinished"
    deadline = time.monotonic() + 60
    while not hidden.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5 if processes == 1 else 5)  # while a pool starts its workers it ignores the signal
    os.killpg(process.pid, signal.SIGINT)
    if processes > 1:
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
    try:
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert said.count("Traceback") == 1 and "KeyboardInterrupt" in said
    assert list(raw.iterdir()) == []


def test_running_conversion_keeps_its_folder_and_a_killed_one_loses_it(raw, case):
    command = [sys.executable, "-c", SLOW, "1", "60"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        hidden = raw / ".Dataset005_Test.unfinished"
        deadline = time.monotonic() + 60
        while not (hidden / "imagesTr").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "another conversion is writing this dataset" in fails(raw, [case()])
    finally:
        process.kill()
        process.wait()
    assert hidden.is_dir()
    target = write_dataset(5, "Test", [case()], DWI, LABELS)
    assert [path.name for path in raw.iterdir()] == [target.name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(raw, number):
    """A cluster ends a job with SIGTERM, which leaves time to tidy up, and then with SIGKILL, which does not."""
    process = subprocess.Popen([sys.executable, "-c", SLOW, "2", "4"], stderr=subprocess.PIPE, start_new_session=True)
    hidden = raw / ".Dataset005_Test.unfinished"
    deadline = time.monotonic() + 60
    while not (hidden / "imagesTr").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(number)
    # Workers hold the other end of the pipe, so this returns when the last of them is gone.
    process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    assert hidden.exists() == (number == signal.SIGKILL)
