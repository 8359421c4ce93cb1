"""Models of images that the conversion resized: a photograph in, a mask of its size out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from PIL import Image

from dataset_conversion.image_files import copy_grid, settled_grid
from nnunet_sfma.cli import main as nnunet_sfma
from nnunet_sfma.picture_size import resize_linearly, slice_by_slice
from nnunet_sfma.prediction.__main__ import main
from nnunet_sfma.prediction.resized import Resized, how_resized
from tests.conftest import TINY_NETWORKS, Workspace, plan_and_preprocess
from tests.forked_workers import fork_workers
from tests.prediction.conftest import PLANS, TRAINER, copy_images, copy_model, images_of

DATASET, SIZE = "Dataset007_ISIC2017", 32
PARTS = {"Training": 5, "Validation": 1, "Test_v2": 1}
PHOTOGRAPH = "ISIC_0000006"
RECIPE = ["training.num_epochs=1", "training.iterations_per_epoch=25", "training.val_iterations_per_epoch=1"]
SETTINGS = [*TINY_NETWORKS["sfmanet-narrow"], *RECIPE, "training.initial_lr=0.01", "batch_size=4"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A model of ISIC's photographs, made-up ones of 128 x 96, at 32 x 32, and the release beside its folders."""
    from nnunetv2.run.run_training import get_trainer_from_args

    workspace = Workspace(tmp_path_factory.mktemp("photographs"))
    for folder in workspace.environment.values():
        Path(folder).mkdir()
    _write_release(workspace.root / "release")
    with pytest.MonkeyPatch.context() as patch:
        workspace.point_to_it(patch)
        patch.setenv("nnUNet_n_proc_DA", "1")
        fork_workers(patch)
        release = str(workspace.root / "release")
        nnunet_sfma(["convert", "isic2017", release, "-d", "7", "--size", str(SIZE), "-np", "1"])
        plan_and_preprocess([7])
        nnunet_sfma(["plan", "-d", "7", "--preset", "sfmanet-narrow", "--name", PLANS, "-np", "1", "--set", *SETTINGS])
        patch.setenv("nnUNet_n_proc_DA", "0")
        torch.manual_seed(0)
        np.random.seed(0)
        get_trainer_from_args("7", "2d", "all", TRAINER, PLANS, False, torch.device("cpu")).run_training()
    return workspace


@pytest.fixture
def model(photographs: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the model."""
    for name, value in {**photographs.environment, "nnUNet_npp": "0", "nnUNet_nps": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    shutil.copytree(photographs.results, tmp_path / "results")
    return tmp_path / "results" / DATASET / f"{TRAINER}__{PLANS}__2d"


@pytest.fixture
def images(photographs: Workspace, tmp_path: Path) -> Path:
    """A photograph of the test part as it is, and as the conversion resized it."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.open(next(photographs.root.rglob(f"{PHOTOGRAPH}.jpg"))).save(folder / "large_0000.png")
    shutil.copy(photographs.raw / DATASET / "imagesTs" / f"{PHOTOGRAPH}_0000.png", folder / "small_0000.png")
    return folder


def predict(images: Path, *more: str) -> dict[str, np.ndarray]:
    out = images.parent / "out"
    which = ["-d", DATASET, "-tr", TRAINER, "-p", PLANS, "-c", "2d", "-f", "all", "-device", "cpu"]
    main([*which, "-i", str(images), "-o", str(out), *more])
    return {path.stem: np.asarray(Image.open(path)) for path in out.glob("*.png")}


def enlarged(small: np.ndarray) -> np.ndarray:
    """From 32 x 32 to 96 x 128, in which the nearest neighbour is plain."""
    return small.repeat(3, axis=0).repeat(4, axis=1)


def test_photograph_is_predicted_as_the_conversion_has_it(photographs: Workspace, model: Path, images: Path):
    found = predict(images, "--save_probabilities")
    assert found["small"].shape == (SIZE, SIZE) and found["large"].shape == (96, 128)
    np.testing.assert_array_equal(found["large"], enlarged(found["small"]))
    lesion = np.asarray(Image.open(next(photographs.root.rglob(f"{PHOTOGRAPH}_segmentation.png")))) > 127
    assert 2 * (found["large"] & lesion).sum() / (found["large"].sum() + lesion.sum()) > 0.8
    small, large = (np.load(images.parent / "out" / f"{name}.npz")["probabilities"] for name in ("small", "large"))
    assert small.shape == (2, 1, SIZE, SIZE) and large.shape == (2, 1, 96, 128)
    np.testing.assert_allclose(large.sum(0), 1, atol=1e-3)
    assert np.abs(large[1, 0] - enlarged(small[1, 0])).mean() < 0.05


def test_nnunet_takes_what_is_known_of_the_resizing_along(photographs: Workspace, model: Path):
    assert json.loads((model / "dataset.json").read_text())["resized"]["size"] == [SIZE, SIZE]
    provenance = json.loads((photographs.raw / DATASET / "provenance.json").read_text())
    assert provenance["cases"][PHOTOGRAPH]["original_size"] == [128, 96]


def test_conversion_of_an_earlier_version_is_known_by_its_provenance(
    model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
):
    path = model / "dataset.json"
    description = json.loads(path.read_text())
    del description["resized"]
    path.write_text(json.dumps(description))
    found = predict(images)
    np.testing.assert_array_equal(found["large"], enlarged(found["small"]))
    monkeypatch.delenv("nnUNet_raw")
    assert (predict(images)["large"] != enlarged(found["small"])).any()


@pytest.mark.parametrize(
    ("content", "size"),
    [
        ({"options": {"size": 32, "resampling": {}}}, (32, 32)),
        ({"options": {"size": 64, "resampling": {}}}, None),
        ({"options": {"size": 32, "resampling": {}, "axis": 3}}, None),
        ({"options": []}, None),
        ("of another program", None),
    ],
)
def test_provenance_counts_if_the_model_was_planned_for_its_size(
    content: object, size: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    (tmp_path / DATASET).mkdir()
    (tmp_path / DATASET / "provenance.json").write_text(json.dumps(content))
    plans = {"dataset_name": DATASET, "original_median_shape_after_transp": [1, 32, 32]}
    assert how_resized({}, plans) == (size and Resized(size))
    assert how_resized({}, {"dataset_name": DATASET}) is None


def test_predict_resizes(model: Path, images: Path):
    out = images.parent / "predicted"
    which = ["-d", DATASET, "-tr", TRAINER, "-p", PLANS, "-f", "all", "-device", "cpu", "-np", "1"]
    nnunet_sfma(["predict", *which, "-i", str(images), "-o", str(out)])
    small, large = (np.asarray(Image.open(out / f"{name}.png")) for name in ("small", "large"))
    assert small.any()
    np.testing.assert_array_equal(large, enlarged(small))


@pytest.mark.parametrize("resized", [3, {}, {"size": [0, 32]}, {"size": [32, 32], "slices_along": "w"}])
def test_damaged_entry_is_named(model: Path, images: Path, resized: object):
    path = model / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "resized": resized}))
    with pytest.raises(SystemExit, match=r"^dataset.json of the model of Dataset007_ISIC2017 is damaged \(resized"):
        predict(images)


def test_volumes_are_predicted_as_the_conversion_has_them(
    trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of any size, on an oblique grid; and as they are where they have the model's size, but another spacing."""
    model = copy_model(trained, tmp_path / "results")
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    path = model / "dataset.json"
    # the spacing that this model was trained with, so that nnU-Net has nothing to resample
    resized = {"size": [40, 32], "image": "linear", "label": "nearest", "spacing": [4.0, 0.9, 0.9]}
    path.write_text(json.dumps({**json.loads(path.read_text()), "resized": resized}))
    images = tmp_path / "images"
    images.mkdir()
    for channel in range(2):
        as_large = sitk.ReadImage(str(images_of(trained) / f"as_large_{channel:04d}.nii.gz"))
        slices = np.tile(sitk.GetArrayFromImage(as_large), (3, 1, 1))
        write_oblique(slices, (0.9, 0.9, 4.0), images / f"as_large_{channel:04d}.nii.gz")
        write_oblique(slices, (2.5, 1.9, 8.0), images / f"other_spacing_{channel:04d}.nii.gz")
        write_oblique(slices.repeat(3, 1).repeat(2, 2), (0.5, 0.3, 8.0), images / f"larger_{channel:04d}.nii.gz")
        smoothed = slice_by_slice(resize_linearly, slices.repeat(3, 1).repeat(2, 2), (40, 32))
        write_oblique(smoothed, (0.9, 0.9, 4.0), images / f"as_converted_{channel:04d}.nii.gz")
    which = ["-d", trained.regions, "-tr", TRAINER, "-p", PLANS, "-c", "2d", "-f", "0", "-device", "cpu"]
    main([*which, "-i", str(images), "-o", str(tmp_path / "out"), "--save_probabilities"])
    found = {path.name.removesuffix(".nii.gz"): sitk.ReadImage(str(path)) for path in (tmp_path / "out").glob("*.gz")}
    masks = {case: sitk.GetArrayFromImage(mask) for case, mask in found.items()}
    assert masks["as_large"].any() and masks["as_converted"].any()
    np.testing.assert_array_equal(masks["other_spacing"], masks["as_large"])
    np.testing.assert_array_equal(masks["larger"], masks["as_converted"].repeat(3, 1).repeat(2, 2))
    for case, mask in found.items():
        image = sitk.ReadImage(str(images / f"{case}_0000.nii.gz"))
        for part in ("Size", "Spacing", "Origin", "Direction"):
            assert getattr(mask, f"Get{part}")() == getattr(image, f"Get{part}")()
        probabilities = np.load(tmp_path / "out" / f"{case}.npz")["probabilities"]
        assert probabilities.shape == (2, *image.GetSize()[::-1])


def write_oblique(array: np.ndarray, spacing: tuple[float, ...], path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((12.5, -30.25, 7.75))
    image.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    sitk.WriteImage(copy_grid(image, settled_grid(image)), str(path))


def test_volume_is_not_a_slice(trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A model of paper slices is not given volumes, whose slices would be along another axis."""
    model = copy_model(trained, tmp_path / "results")
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    path = model / "dataset.json"
    resized = {"size": [40, 32], "slices_along": "x"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "resized": resized}))
    images = copy_images(trained, tmp_path / "images")
    which = ["-d", trained.regions, "-tr", TRAINER, "-p", PLANS, "-c", "2d", "-f", "0", "-device", "cpu"]
    with pytest.raises(SystemExit, match="larger_0000.nii.gz has 40 x 70 x 2 voxels, .* along X of 32 x 40 .cut it"):
        main([*which, "-i", str(images), "-o", str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["as_large.nii.gz"]


def _write_release(folder: Path) -> None:
    """Skin with a dark lesion, as ISIC 2017 lays out its photographs."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((96, 128))
    number = 0
    for part, cases in PARTS.items():
        data, truth = folder / f"ISIC-2017_{part}_Data", folder / f"ISIC-2017_{part}_Part1_GroundTruth"
        data.mkdir(parents=True)
        truth.mkdir()
        for _ in range(cases):
            centre, radius = rng.uniform((35, 45), (60, 80)), rng.uniform(16, 28)
            lesion = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
            skin = np.where(lesion[..., None], (90, 50, 40), (220, 180, 160)) + rng.normal(0, 12, (96, 128, 1))
            Image.fromarray(skin.clip(0, 255).astype(np.uint8)).save(data / f"ISIC_{number:07d}.jpg", quality=95)
            Image.fromarray(255 * lesion.astype(np.uint8)).save(truth / f"ISIC_{number:07d}_segmentation.png")
            number += 1
