"""``--paper-slices`` and ``stack``: volumes to resized slices and back."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from dataset_conversion.cases import Case, Content
from dataset_conversion.common import write_dataset
from dataset_conversion.paper_slices import SIZE, cut, stack
from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.evaluation_file import read_evaluation
from tests.dataset_conversion.releases import voxels, write

LABELS = {"background": 0, "lesion": 1}
SHAPE = (9, 14, 11)
"""(z, y, x): different along each axis, so that a swapped axis shows."""


def label_array(seed: int) -> np.ndarray:
    array = (np.random.default_rng(seed).random(SHAPE) < 0.3).astype(np.uint8)
    array[:, :, [0, 1, SHAPE[2] - 1]] = 0
    return array


def content(grid: sitk.Image, seed: int) -> Content:
    array = np.random.default_rng(seed).normal(100, 10, SHAPE).astype(np.float32)
    images = [sitk.GetImageFromArray(array), sitk.GetImageFromArray(label_array(seed))]
    for image in images:
        image.CopyInformation(grid)
    return Content(images[:1], images[1])


@pytest.fixture
def sliced(raw, volume):
    """Makes a data set of slices of two volumes, and returns its folder."""
    grid = volume(size=SHAPE[::-1])

    def make(slices: str = "all") -> Path:
        cases = [Case(f"c{seed}", partial(content, grid, seed)) for seed in (1, 2)]
        return write_dataset(5, "Slices", cases, {"0": "T1w"}, LABELS, cut=partial(cut, slices=slices))

    return make


def test_every_slice_along_x_is_a_case_of_256_pixels(sliced):
    folder = sliced()
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2 * SHAPE[2]
    names = sorted(path.name for path in (folder / "labelsTr").iterdir())
    assert names == [f"c{seed}_x{x:03d}.nii.gz" for seed in (1, 2) for x in range(SHAPE[2])]
    image = sitk.ReadImage(str(folder / "imagesTr" / "c1_x004_0000.nii.gz"))
    assert image.GetSize() == (SIZE, SIZE)


def test_slices_with_lesion_only(sliced):
    folder = sliced("lesion")
    label = label_array(1)
    expected = [f"c1_x{x:03d}" for x in range(SHAPE[2]) if label[:, :, x].any()]
    assert json.loads((folder / "provenance.json").read_text())["cases"]["c1"]["slices"] == expected
    assert len(expected) < SHAPE[2]


def test_rows_run_along_z_and_columns_along_y(sliced):
    folder = sliced()
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labelsTr" / "c2_x005.nii.gz")))
    z = ((np.arange(SIZE) + 0.5) * SHAPE[0] / SIZE).astype(int)
    y = ((np.arange(SIZE) + 0.5) * SHAPE[1] / SIZE).astype(int)
    np.testing.assert_array_equal(mask, label_array(2)[np.ix_(z, y, [5])][..., 0])


def test_an_image_that_is_linear_in_space_stays_so(volume):
    ramp = np.broadcast_to(np.arange(SHAPE[1], dtype=np.float32)[None, :, None], SHAPE)
    pieces = list(cut(Content([volume(np.ascontiguousarray(ramp))], None)))
    row = sitk.GetArrayFromImage(pieces[3].images[0])[100]
    expected = np.clip((np.arange(SIZE) + 0.5) * SHAPE[1] / SIZE - 0.5, 0, SHAPE[1] - 1)
    np.testing.assert_allclose(row, expected, atol=1e-4)


@pytest.mark.parametrize("slices", ["all", "lesion"])
def test_labels_come_back_unchanged_with_their_geometry(sliced, tmp_path, volume, slices, capsys):
    folder = sliced(slices)
    main(["stack", "-d", "5", "-i", str(folder / "labelsTr"), "-o", str(tmp_path / "volumes")])
    assert ("were filled with background" in capsys.readouterr().out) == (slices == "lesion")
    assert sorted(path.name for path in (tmp_path / "volumes").iterdir()) == ["c1.nii.gz", "c2.nii.gz"]
    grid = volume(size=SHAPE[::-1])
    for seed in (1, 2):
        back = sitk.ReadImage(str(tmp_path / "volumes" / f"c{seed}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back), label_array(seed))
        for part in ("Size", "Spacing", "Origin", "Direction"):
            np.testing.assert_allclose(getattr(back, f"Get{part}")(), getattr(grid, f"Get{part}")(), atol=1e-5)


def test_some_volumes_can_be_stacked_without_the_others(sliced, tmp_path):
    folder = sliced()
    for path in (folder / "labelsTr").glob("c2_*"):
        path.unlink()
    assert [path.name for path in stack(folder / "labelsTr", folder, tmp_path / "out")] == ["c1.nii.gz"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda place: (place / "c1_x003.nii.gz").unlink(), "1 of 11 slices of c1 are missing"),
        (lambda place: write(sitk.Image([4, 4], sitk.sitkUInt8), place / "c9_x000.nii.gz"), "is no slice of this data"),
        (lambda place: write(sitk.Image([4, 4], sitk.sitkUInt8), place / "c1_x003.nii.gz"), "instead of 256 x 256"),
        (lambda place: (place / "c1_x003.nii.gz").write_bytes(b"x"), "cannot be read"),
        (lambda place: write(sitk.Image([256, 256], sitk.sitkFloat32) + 0.9, place / "c1_x003.nii.gz"), "no labels"),
        (lambda place: write(sitk.Image([256, 256], sitk.sitkInt16) + 257, place / "c1_x003.nii.gz"), "no labels"),
        (lambda place: [path.unlink() for path in place.iterdir()], "holds no predicted slices"),
    ],
)
def test_wrong_predictions_end_in_one_sentence_and_leave_nothing(sliced, tmp_path, spoil, said):
    folder = sliced()
    spoil(folder / "labelsTr")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as error:
        stack(folder / "labelsTr", folder, tmp_path / "out")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_all_damaged_slices_and_incomplete_volumes_are_named(sliced, tmp_path):
    folder = sliced()
    damaged = [folder / "labelsTr" / name for name in ("c1_x003.nii.gz", "c2_x000.nii.gz")]
    for path in damaged:
        path.write_bytes(b"x")
    with pytest.raises(UserError) as error:
        stack(folder / "labelsTr", folder, tmp_path / "out")
    assert "2 of 22 predicted slices" in str(error.value) and all(
        f"{path} cannot" in str(error.value) for path in damaged
    )
    for path in damaged:
        path.unlink()
    with pytest.raises(UserError, match="1 of 11 slices of c1 .* 1 of 11 slices of c2 "):
        stack(folder / "labelsTr", folder, tmp_path / "out")


def test_output_may_be_the_empty_folder_one_is_in(sliced, tmp_path, monkeypatch):
    folder = sliced()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert len(stack(folder / "labelsTr", folder, Path("."))) == 2
    assert len(list((tmp_path / "here").iterdir())) == 2


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"cases": []}', "{"])
def test_damaged_provenance_ends_in_one_sentence(sliced, tmp_path, text):
    folder = sliced()
    (folder / "provenance.json").write_text(text)
    with pytest.raises(UserError, match="does not consist of slices"):
        stack(folder / "labelsTr", folder, tmp_path / "out")


def test_volume_without_lesion_is_said_to_be_left_out(raw, volume, mask, capsys):
    cases = [Case("a", lambda: Content([volume()], mask())), Case("b", lambda: Content([volume()], mask(empty=True)))]
    write_dataset(5, "Slices", cases, {"0": "T1w"}, LABELS, cut=partial(cut, slices="lesion"))
    assert "1 cases have no such slice and were left out (b)" in capsys.readouterr().out


def test_no_lesion_at_all(raw, volume, mask):
    cases = [Case("b", lambda: Content([volume()], mask(empty=True)))]
    with pytest.raises(UserError, match="None of the training cases has a lesion"):
        write_dataset(5, "Slices", cases, {"0": "T1w"}, LABELS, cut=partial(cut, slices="lesion"))
    assert not list(raw.iterdir())


def test_output_that_holds_something_is_left_alone(sliced, tmp_path):
    folder = sliced()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        stack(folder / "labelsTr", folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_data_set_without_slices_cannot_be_stacked(raw, volume, mask, tmp_path):
    folder = write_dataset(5, "Plain", [Case("a", lambda: Content([volume()], mask()))], {"0": "T1w"}, LABELS)
    with pytest.raises(UserError, match="does not consist of slices"):
        stack(folder / "labelsTr", folder, tmp_path / "out")


def test_command_names_slices_and_resampling(raw, tmp_path, build_isles):
    main(["convert", "isles2022", str(build_isles(tmp_path)), "-d", "6", "--paper-slices", "-np", "1"])
    folder = raw / "Dataset006_ISLES2022_slices256"
    options = json.loads((folder / "provenance.json").read_text())["options"]
    assert options["axis"] == "x" and options["size"] == 256 and "nearest" in options["resampling"]
    resized = json.loads((folder / "dataset.json").read_text())["resized"]  # from which predict knows it
    assert resized["size"] == [256, 256] and resized["slices_along"] == "x"
    assert len(list((folder / "labelsTr").iterdir())) == 14


def test_stacked_predictions_are_evaluated_as_the_volumes_that_they_were(raw, tmp_path, build_isles):
    """What nnU-Net wrote beside the slices tells the model; slices are those along X, and lengths are in mm."""
    source = build_isles(tmp_path)
    main(["convert", "isles2022", str(source), "-d", "6", "--paper-slices", "-np", "1"])
    folder, predicted = raw / "Dataset006_ISLES2022_slices256", tmp_path / "predicted"
    shutil.copytree(folder / "labelsTr", predicted)
    shutil.copy(folder / "dataset.json", predicted)
    for slices, volumes in ((predicted, "volumes"), (folder / "labelsTr", "labels")):
        main(["stack", "-d", "6", "-i", str(slices), "-o", str(tmp_path / volumes)])
    main(
        ["evaluate", "-i", str(tmp_path / "volumes"), "-l", str(tmp_path / "labels"), "-np", "1", "--average", "slice"]
    )
    evaluation = read_evaluation(tmp_path / "volumes")
    assert evaluation["dataset"]["slice_axis"] == 2 and evaluation["dataset"]["unit"] == "mm"
    for case in evaluation["cases"]:
        truth = voxels(next(source.rglob(f"*{case['case']}*_msk.nii.gz")))
        assert case["shape"] == list(truth.shape) and case["mean"]["dice"] == 1
        assert case["classes"]["lesion"]["volume_reference"] == pytest.approx(truth.sum() * 0.9 * 1.1 * 2.5 / 1000)


def test_empty_labels_are_counted_as_they_were_written(sliced, capsys):
    """Not by volume: each of the two has lesions, and three slices without."""
    folder = sliced()
    empty = [p.name.removesuffix(".nii.gz") for p in sorted((folder / "labelsTr").iterdir()) if not voxels(p).any()]
    assert len(empty) == 6
    assert f"Wrote 22 training cases to {folder}; 6 with an empty label ({', '.join(empty[:5])}, ...)." in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(("more", "count"), [([], "14"), (["--slices", "lesion"], "up to 14")])
def test_dry_run_announces_slices(raw, tmp_path, build_isles, capsys, more, count):
    main(["convert", "isles2022", str(build_isles(tmp_path)), "--paper-slices", "--dry-run", *more])
    assert f"Would write {count} training and 0 test cases." in capsys.readouterr().out
    main(["convert", "isles2022", str(tmp_path / "ISLES-2022"), "--paper-slices", "--dry-run", "--json", *more])
    assert json.loads(capsys.readouterr().out)["would_write"] == {"training": 14, "test": 0}


def test_slices_of_two_patients_get_a_fold_for_each(raw, tmp_path, build_isles, capsys):
    main(["convert", "isles2022", str(build_isles(tmp_path)), "-d", "6", "--paper-slices", "-np", "1"])
    folds = json.loads((raw / "Dataset006_ISLES2022_slices256" / "splits_final.json").read_text())
    sides = [[{case.split("_")[0] for case in fold[side]} for side in ("train", "val")] for fold in folds]
    assert sorted(sides, key=str) == [
        [{"strokecase0001"}, {"strokecase0002"}],
        [{"strokecase0002"}, {"strokecase0001"}],
    ]
    said = capsys.readouterr().out
    assert "2 subjects are too few for five folds" in said and "--scheme five-fold" not in said


def test_slice_outside_its_volume_ends_in_one_sentence(sliced, tmp_path):
    folder = sliced()
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["cases"]["c1"]["grid"]["size"][0] = 4
    (folder / "provenance.json").write_text(json.dumps(provenance))
    with pytest.raises(UserError, match="c1 has a slice 10 but no such column"):
        stack(folder / "labelsTr", folder, tmp_path / "out")


def test_slices_need_paper_slices(raw, tmp_path, build_isles):
    with pytest.raises(UserError, match="--paper-slices"):
        main(["convert", "isles2022", str(build_isles(tmp_path)), "-d", "6", "--slices", "lesion"])
