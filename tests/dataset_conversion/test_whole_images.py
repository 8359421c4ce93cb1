"""``--size``: whole pictures and whole slices at one size, and label maps brought back to where they came from."""

import json
from importlib import import_module
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from PIL import Image

from dataset_conversion import acdc, glas, synapse
from dataset_conversion.found import convert
from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from nnunet_sfma.prediction.resized import WholeImageIO, how_resized
from tests.dataset_conversion import releases
from tests.dataset_conversion.releases import FLIPPED, names, one, save, voxels, write

SIDE = 32
BUILD = {"acdc": releases.build_acdc, "glas": releases.build_glas, "synapse": releases.build_synapse}
FIND = {"acdc": acdc.find, "glas": glas.find, "synapse": synapse.find}
VOLUMES = ("acdc", "synapse")


@pytest.fixture(params=BUILD)
def release(request) -> str:
    return request.param


def written(raw: Path, release: str, root: Path, dataset_id: int, *more: str) -> Path:
    main(["convert", release, str(root), "-d", str(dataset_id), "-np", "1", *more])
    return next(raw.glob(f"Dataset{dataset_id}_*"))


def resized(target: Path) -> dict:
    return json.loads((target / "dataset.json").read_text())["resized"]


def test_cases_parts_and_subjects_are_those_of_the_full_resolution(raw, source, provenance, release, capsys):
    root = BUILD[release](source)
    full = written(raw, release, root, 501)
    main(["convert", release, str(root), "--size", str(SIDE), "--dry-run"])
    training, test = (len(names(full / f"images{split}")) for split in ("Tr", "Ts"))
    assert f"Would write {training} training and {test} test cases." in capsys.readouterr().out
    small = written(raw, release, root, 502, "--size", str(SIDE))
    assert small.name == full.name.replace("501", "502") + f"_{SIDE}"
    for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs", "instancesTr", "instancesTs"):
        assert names(small / folder) == names(full / folder)
    for key in ("split", "part", "subject", "stratum", "sha256", *(["foreground"] if release in VOLUMES else [])):
        told = [{case: entry[key] for case, entry in provenance(target).items()} for target in (full, small)]
        assert told[0] == told[1]
    assert (small / "splits_final.json").is_file() == (full / "splits_final.json").is_file()
    assert resized(small)["size"] == [SIDE, SIDE] and "resized" not in json.loads((full / "dataset.json").read_text())


def test_pictures_and_instance_maps_are_resized_as_a_whole(raw, source, provenance):
    """Blocks of 5 x 3 pixels become one, so their mean and their middle are known without a library."""
    root = releases.build_glas(source)
    picture = save(releases.picture(7, (80, 48)), one(root, "train_1.bmp"))
    glands = np.random.default_rng(0).integers(0, 200, (48, 80), dtype=np.uint8)
    glands[glands > 20] = 0
    save(Image.fromarray(glands), one(root, "train_1_anno.bmp"))
    target = convert(glas.find(root, 16), 501)
    means = np.asarray(Image.open(picture)).reshape(16, 3, 16, 5, 3).mean(axis=(1, 3))
    assert np.abs(voxels(target / "imagesTr/train_1_0000.png") - means).max() <= 1
    np.testing.assert_array_equal(voxels(target / "instancesTr/train_1.png"), glands[1::3, 2::5])
    np.testing.assert_array_equal(voxels(target / "labelsTr/train_1.png"), glands[1::3, 2::5] > 0)
    assert provenance(target)["train_1"]["original_size"] == [80, 48]


@pytest.mark.parametrize("side", [64, 128, 16])
def test_slices_show_the_whole_field_of_view(raw, source, side):
    """Edges are edges and the middle is the middle; a crop would have lost them."""
    root = releases.build_synapse(source, training=(1,), testing=())
    rows, columns = np.indices((64, 64))
    ramp = np.stack([100 * z + rows + 0.01 * columns for z in range(3)]).astype(np.float32)
    quarters = np.stack([1 + (rows >= 32) + 2 * (columns >= 32)] * 3).astype(np.uint8)
    write(releases.volume(ramp, direction=FLIPPED), one(root, "img0001*"))
    write(releases.volume(quarters, direction=FLIPPED), one(root, "label0001*"))
    target = convert(synapse.find(root, "full", side), 501)
    image, label = (voxels(target / name) for name in ("imagesTr/case0001_0000.nii.gz", "labelsTr/case0001.nii.gz"))
    late = np.arange(side) >= side // 2
    np.testing.assert_array_equal(label, np.stack([1 + late[:, None] + 2 * late] * 3))
    centres, inside = (np.arange(side) + 0.5) * 64 / side - 0.5, slice(side // 8, -side // 8)
    for z in range(3):
        expected = 100 * z + centres[:, None] + 0.01 * centres
        np.testing.assert_allclose(image[z, inside, inside], expected[inside, inside], atol=1e-3)
        np.testing.assert_allclose(image[z], expected, atol=64 / side)


def test_hounsfield_units_stay_and_hold_fractions(raw, source):
    target = convert(synapse.find(releases.build_synapse(source), size=SIDE), 501)
    image = voxels(target / "imagesTr/case0040_0000.nii.gz")
    assert image.dtype == np.float32 and image.min() < -500 and (image % 1).any()
    assert json.loads((target / "dataset.json").read_text())["channel_names"] == {"0": "CT"}


@pytest.mark.parametrize("release", VOLUMES)
def test_voxels_have_no_millimetres_and_the_grid_is_kept_in_provenance(raw, source, provenance, release):
    root = BUILD[release](source)
    full, small = convert(FIND[release](root), 501), convert(FIND[release](root, size=SIDE), 502)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        for name in names(small / folder):
            before, after = (sitk.ReadImage(str(target / folder / name)) for target in (full, small))
            assert after.GetSize() == (SIDE, SIDE, before.GetSize()[2]) and after.GetSpacing() == (1, 1, 1)
            np.testing.assert_allclose(after.GetDirection(), before.GetDirection(), atol=1e-6)
            grid = provenance(small)[name.removesuffix(".nii.gz").removesuffix("_0000")]["grid"]
            assert {key: tuple(value) for key, value in grid.items()} == {
                key: getattr(before, f"Get{key.capitalize()}")() for key in ("size", "spacing", "origin", "direction")
            }
            if folder == "labelsTr":
                assert set(np.unique(voxels(small / folder / name))) == set(np.unique(voxels(full / folder / name)))


def test_volumes_are_no_slices_to_be_stacked(raw, source):
    target = convert(acdc.find(releases.build_acdc(source), SIDE), 501)
    with pytest.raises(UserError, match="does not consist of slices"):
        main(["stack", "-d", "501", "-i", str(target / "labelsTr"), "-o", str(source / "out")])


def test_size_out_of_range(source, release):
    root = BUILD[release](source)
    for size in (-1, 8193):
        with pytest.raises(UserError, match=f"--size {size}: give the side in pixels, up to 8192, or 0"):
            FIND[release](root, size=size)


def test_nnunet_resamples_nothing_and_slices_along_z(raw, source, tmp_path, monkeypatch):
    """Although the images had other spacings and sizes before, and the widest spacing lay elsewhere."""
    root = releases.build_acdc(source, {number: releases.Patient(1, 2) for number in (1, 2, 3)})
    for number, spacings in ((2, [0.7, 9.0, 4.0]), (3, [3.0, 8.0, 1.2])):
        for path in root.rglob(f"patient{number:03d}_frame*"):
            array, affine = np.asanyarray(nibabel.load(path).dataobj), np.diag([*spacings, 1.0])
            releases.write_nifti(np.tile(array, (2, 3, 1)), path, affine, affine)
    target = convert(acdc.find(root, SIDE), 27)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    shapes = preprocessed_shapes(target, tmp_path / "preprocessed" / target.name)
    assert shapes == {(1, releases.SIZE[2], SIDE, SIDE)}


def preprocessed_shapes(target: Path, folder: Path) -> set[tuple[int, ...]]:
    """What nnU-Net's fingerprint, planner and 2D preprocessing make of the training cases, without its processes."""
    planning = import_module("nnunetv2.experiment_planning.experiment_planners.default_experiment_planner")
    extractor = import_module("nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor")
    files = [
        ([str(target / "imagesTr" / name.replace(".nii.gz", "_0000.nii.gz"))], str(target / "labelsTr" / name))
        for name in names(target / "labelsTr")
    ]
    analysed = [extractor.DatasetFingerprintExtractor.analyze_case(*case, SimpleITKIO) for case in files]
    fingerprint = {
        "shapes_after_crop": [case[0] for case in analysed],
        "spacings": [[float(side) for side in case[1]] for case in analysed],
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {"0": {}},
    }
    folder.mkdir(parents=True)
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    plans = PlansManager(planning.ExperimentPlanner(target.name).plan_experiment())
    configuration = plans.get_configuration("2d")
    about = json.loads((target / "dataset.json").read_text())
    preprocessor = configuration.preprocessor_class(verbose=False)
    return {preprocessor.run_case(*case, plans, configuration, about)[0].shape for case in files}


# The way back, as predict takes it


def back(target: Path, image: Path, label: np.ndarray, out: Path) -> sitk.Image:
    """A label map of the model's size, written as the prediction for an image of the full resolution."""
    plans = {"dataset_name": target.name}
    reader = WholeImageIO(SimpleITKIO, how_resized(json.loads((target / "dataset.json").read_text()), plans))
    seen, properties = reader.read_images([str(image)])
    assert seen.shape[1:] == label.shape
    reader.write_seg(label, str(out), properties)
    return sitk.ReadImage(str(out))


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.parametrize("release", VOLUMES)
def test_label_enlarged_by_three_comes_back_unchanged_on_its_very_grid(raw, source, tmp_path, release):
    root = BUILD[release](source)
    columns, rows = (3 * side for side in releases.SIZE[:2])
    full, small = convert(FIND[release](root), 501), convert(FIND[release](root, size=rows), 502)
    assert rows == 3 * releases.SIZE[1] and columns < rows
    for name in names(full / "labelsTr"):
        image = full / "imagesTr" / name.replace(".nii.gz", "_0000.nii.gz")
        found = back(small, image, voxels(small / "labelsTr" / name), tmp_path / name)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found), voxels(full / "labelsTr" / name))
        for part in ("Size", "Spacing", "Origin", "Direction"):
            assert getattr(found, f"Get{part}")() == getattr(sitk.ReadImage(str(image)), f"Get{part}")()


def test_real_hearts_lose_little_on_the_way_to_256_and_back(raw, real_acdc, tmp_path):
    full, small = convert(acdc.find(real_acdc), 501), convert(acdc.find(real_acdc, 256), 502)
    assert names(full / "labelsTr")
    for name in names(full / "labelsTr"):
        image, truth = full / "imagesTr" / name.replace(".nii.gz", "_0000.nii.gz"), voxels(full / "labelsTr" / name)
        found = back(small, image, voxels(small / "labelsTr" / name), tmp_path / name)
        for part in ("Size", "Spacing", "Origin", "Direction"):
            assert getattr(found, f"Get{part}")() == getattr(sitk.ReadImage(str(image)), f"Get{part}")()
        for value in (1, 2, 3):
            assert dice(sitk.GetArrayViewFromImage(found) == value, truth == value) > 0.95
