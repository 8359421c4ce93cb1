"""GlaS: instances become one label and are kept beside it; patients and grades come from Grade.csv."""

import json

import numpy as np
import pytest
from PIL import Image

from dataset_conversion.found import convert
from dataset_conversion.glas import find
from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from tests.dataset_conversion import releases
from tests.dataset_conversion.releases import GLAS_GRADES, glas_annotation, names, one, save, voxels


def decoded(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_label_is_every_gland_and_instances_lie_beside(raw, source):
    root = releases.build_glas(source)
    target = convert(find(root), 501)
    for name in GLAS_GRADES:
        split = "Tr" if name.startswith("train") else "Ts"
        glands = decoded(one(root, f"{name}_anno.bmp"))
        np.testing.assert_array_equal(voxels(target / f"labels{split}/{name}.png"), glands > 0)
        np.testing.assert_array_equal(voxels(target / f"instances{split}/{name}.png"), glands)
        assert set(np.unique(glands)) == {0, 1, 2, 200}


def test_pixels_are_kept_in_the_order_red_green_blue(raw, source):
    root = releases.build_glas(source)
    target = convert(find(root), 501)
    np.testing.assert_array_equal(voxels(target / "imagesTr/train_10_0000.png"), decoded(one(root, "train_10.bmp")))
    entries = json.loads((target / "dataset.json").read_text())
    assert entries["channel_names"] == {"0": "R", "1": "G", "2": "B"} and entries["file_ending"] == ".png"
    assert entries["labels"] == {"background": 0, "gland": 1}


def test_both_test_sets_go_to_images_ts(raw, source, provenance):
    target = convert(find(releases.build_glas(source)), 501)
    assert names(target / "imagesTr") == ["train_10_0000.png", "train_1_0000.png", "train_2_0000.png"]
    assert names(target / "imagesTs") == ["testA_1_0000.png", "testB_1_0000.png"]
    assert names(target / "labelsTs") == ["testA_1.png", "testB_1.png"]
    assert [provenance(target)[name]["part"] for name in ("testA_1", "testB_1")] == ["Test A", "Test B"]
    assert find(source).counts == {"Training": (3, 85), "Test A": (1, 60), "Test B": (1, 20)}


@pytest.mark.parametrize("columns", ["short", "original"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_subject_and_stratum_come_from_grade_csv(raw, source, provenance, columns, encoding, line_end):
    """In either order of the columns, with blanks after the commas; of two grades the challenge's own counts."""
    root = releases.build_glas(source)
    text = releases.glas_table(columns).replace("\n", line_end)
    (root / "Grade.csv").write_bytes(text.encode(encoding))
    cases = provenance(convert(find(root), 501))
    for name, (patient, grade, _) in GLAS_GRADES.items():
        assert (cases[name]["subject"], cases[name]["stratum"]) == (f"patient{patient}", grade)
    assert cases["train_1"]["subject"] == cases["train_2"]["subject"]


def test_without_grade_csv_each_image_is_a_subject_and_that_is_said(raw, source, provenance, capsys):
    cases = provenance(convert(find(releases.build_glas(source, grades=None)), 501))
    assert cases["train_1"]["subject"] == "train_1" and cases["train_1"]["stratum"] is None
    assert "Grade.csv is not there" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "patient ID,name\n5,train_1\n", "patient ID,name,grade\n5\n", "\xff"]
)
def test_grade_csv_that_is_something_else(source, text):
    root = releases.build_glas(source)
    (root / "Grade.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as error:
        find(root)
    assert str(root / "Grade.csv") in str(error.value) and "\n" not in str(error.value)


def test_image_that_grade_csv_does_not_know_is_told(raw, source):
    """Its patient is unknown, so it might be in training and validation at once."""
    root = releases.build_glas(source)
    lines = (root / "Grade.csv").read_text().splitlines()
    (root / "Grade.csv").write_text("\n".join(line for line in lines if "train_10," not in line))
    found = find(root)
    assert any("train_10" in sentence for sentence in found.notes + found.problems)


def test_annotation_with_a_palette_keeps_its_numbers(raw, source):
    root = releases.build_glas(source)
    coloured = glas_annotation()
    coloured.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    save(coloured, one(root, "train_1_anno.bmp"))
    assert decoded(one(root, "train_1_anno.bmp")).max() == 200
    target = convert(find(root), 501)
    np.testing.assert_array_equal(voxels(target / "instancesTr/train_1.png"), np.asarray(glas_annotation()))


def test_folds_hold_equally_many_images_although_patients_do_not(raw, source):
    """As in the released table, where one patient has 16 of 85 images and others have one."""
    root = source / "Warwick QU Dataset (Released 2016_07_08)"
    patients = [patient for patient, images in enumerate((3, 3, 2, 2, 2, 1, 1, 1), 1) for _ in range(images)]
    rows = [f"{patient},train_{number}, benign" for number, patient in enumerate(patients, 1)]
    for number in range(1, len(patients) + 1):
        save(releases.picture(number), root / f"train_{number}.bmp")
        save(glas_annotation(), root / f"train_{number}_anno.bmp")
    (root / "Grade.csv").write_text("\n".join(["patient ID,name,grade", *rows, ""]))
    main(["convert", "glas", str(root), "-d", "501", "-np", "1"])
    folds = json.loads((raw / "Dataset501_GlaS" / "splits_final.json").read_text())
    assert [len(fold["val"]) for fold in folds] == [3, 3, 3, 3, 3]
    for fold in folds:
        sides = [{patients[int(name.removeprefix("train_")) - 1] for name in fold[side]} for side in ("train", "val")]
        assert not sides[0] & sides[1] and sides[0] | sides[1] == set(patients)


def refused(root) -> str:
    with pytest.raises(UserError) as error:
        convert(find(root), 501)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_annotation_in_colours(raw, source):
    root = releases.build_glas(source)
    path = save(glas_annotation().convert("RGB"), one(root, "train_2_anno.bmp"))
    sentence = refused(root)
    assert str(path) in sentence and "colours" in sentence and names(raw) == []


def test_annotation_of_another_size(raw, source):
    root = releases.build_glas(source)
    path = save(glas_annotation((40, 31)), one(root, "testA_1_anno.bmp"))
    sentence = refused(root)
    assert path.name in sentence and "40 x 31" in sentence and names(raw) == []


def test_names_in_another_case_do_not_end_in_a_traceback(source):
    root = releases.build_glas(source)
    for path in [*root.glob("test*")]:
        path.rename(path.with_name(path.name.lower().replace(".bmp", ".BMP")))
    found = find(root)
    assert found.problems or {case.part for case in found.test_cases} == {"Test A", "Test B"}


# Real images


def test_real_glands(raw, real_glas, provenance):
    found = find(real_glas)
    assert len(found.cases) >= 5 and not found.problems
    assert all(case.subject.startswith("patient") for case in found.cases + found.test_cases)
    assert {case.stratum for case in found.cases} <= {"benign", "malignant"}
    found.cases, found.test_cases = found.cases[:1], found.test_cases[:1]
    target = convert(found, 501)
    for split, (case,) in (("Tr", found.cases), ("Ts", found.test_cases)):
        picture, annotation = case.sources
        np.testing.assert_array_equal(voxels(target / f"images{split}/{case.identifier}_0000.png"), decoded(picture))
        np.testing.assert_array_equal(voxels(target / f"labels{split}/{case.identifier}.png"), decoded(annotation) > 0)
        np.testing.assert_array_equal(voxels(target / f"instances{split}/{case.identifier}.png"), decoded(annotation))
