"""Images that cannot be predicted: named with the reason, and the others are predicted."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from nnunetv2.inference.predict_from_raw_data import predict_entry_point
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.cli import main as nnunet_sfma
from nnunet_sfma.explaining.case import CaseFiles, read_case
from nnunet_sfma.explaining.trained_model import load_predictor
from nnunet_sfma.prediction.__main__ import main
from nnunet_sfma.prediction.reading import UnusableImageError, read_images
from tests.conftest import Workspace
from tests.prediction.conftest import PLANS, SHAPES, TRAINER, copy_images, copy_model, images_of

OTHERS = {*SHAPES} - {"larger"}
BROKEN = "larger_0001"


@pytest.fixture(autouse=True)
def threads():
    """The commands change the number of threads of this process."""
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


@pytest.fixture
def command(trained: Workspace, tmp_path: Path) -> list[str]:
    """For fold 0 and the images in a folder ``images``, into a folder ``out``."""
    model = ["-d", trained.regions, "-tr", TRAINER, "-p", PLANS, "-c", "2d", "-device", "cpu", "-f", "0"]
    return [*model, "-i", str(tmp_path / "images"), "-o", str(tmp_path / "out")]


def use_model(trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, reader: str) -> None:
    """The model for another kind of images, and the images of that kind."""
    copy_model(trained, tmp_path / "results", ending, reader)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    (tmp_path / "images").mkdir()
    for path in images_of(trained).iterdir():
        sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / "images" / path.name.replace(".nii.gz", ending)))


def put_value(path: Path, value: float) -> None:
    """Into one voxel; through nibabel, because ITK would write a zero."""
    if path.name.endswith(".nii.gz"):
        image = nibabel.load(path)
        voxels = image.get_fdata(dtype=np.float32)
        voxels[3, 4, 1] = value
        nibabel.save(nibabel.Nifti1Image(voxels, image.affine, image.header), path)
    else:
        image = sitk.ReadImage(str(path))
        image[3, 4, 1] = value
        sitk.WriteImage(image, str(path))


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.name.split(".")[0]: sitk.GetArrayFromImage(sitk.ReadImage(path)) for path in folder.glob("*.[nm]*")}


@pytest.mark.parametrize(
    ("ending", "reader", "value"),
    [
        (".mha", "SimpleITKIO", np.nan),
        (".nrrd", "SimpleITKIO", np.inf),
        (".nii.gz", "NibabelIO", np.nan),
        (".nii.gz", "NibabelIO", -np.inf),
    ],
)
def test_value_that_is_not_finite_is_named_and_the_others_are_predicted(
    trained, tmp_path, monkeypatch, command, ending: str, reader: str, value: float
):
    use_model(trained, tmp_path, monkeypatch, ending, reader)
    broken = tmp_path / "images" / f"{BROKEN}{ending}"
    whole = broken.read_bytes()
    put_value(broken, value)
    with pytest.raises(SystemExit, match=rf"^Not predicted: {broken} holds 1 NaN or infinite voxels in channel 1: rep"):
        main(command)
    first = masks(tmp_path / "out")
    assert first.keys() == OTHERS and all(mask.any() for mask in first.values())
    broken.write_bytes(whole)
    main([*command, "--continue_prediction"])
    assert masks(tmp_path / "out")["larger"].any()


def test_image_that_normalisation_ruins_is_named_and_the_others_are_predicted(trained, tmp_path, command):
    """Of values that are too large to be added."""
    path = copy_images(trained, tmp_path / "images") / f"{BROKEN}.nii.gz"
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(image * 0 + 3e38, str(path))
    with pytest.raises(SystemExit, match=r"^Not predicted: larger \(.* NaN or infinite voxels in channel 1.*\): rep"):
        main(command)
    found = masks(tmp_path / "out")
    assert found.keys() == OTHERS and all(mask.any() for mask in found.values())


def test_predict_names_the_image(trained, tmp_path, monkeypatch, command, capsys: pytest.CaptureFixture):
    use_model(trained, tmp_path, monkeypatch, ".mha", "SimpleITKIO")
    broken = tmp_path / "images" / f"{BROKEN}.mha"
    put_value(broken, np.nan)
    with pytest.raises(SystemExit, match="Not finished: part 1 of 1. Mend it"):
        nnunet_sfma(["predict", *command])
    assert f"Not predicted: {broken} holds 1 NaN or infinite voxels in channel 1" in capsys.readouterr().out
    assert masks(tmp_path / "out").keys() == OTHERS


def test_nnunets_own_command_is_stopped_by_our_networks(trained, tmp_path, monkeypatch, command):
    use_model(trained, tmp_path, monkeypatch, ".mha", "SimpleITKIO")
    put_value(tmp_path / "images" / f"{BROKEN}.mha", np.nan)
    monkeypatch.setattr("sys.argv", ["nnUNetv2_predict", *command])
    with pytest.raises(SystemExit, match="^The image that is named last has NaN or infinite voxels in channel 1:"):
        predict_entry_point()
    assert "larger" not in masks(tmp_path / "out")


def test_explain_refuses_it_as_well(trained, tmp_path, monkeypatch):
    use_model(trained, tmp_path, monkeypatch, ".mha", "SimpleITKIO")
    files = [tmp_path / "images" / f"larger_{channel:04d}.mha" for channel in range(2)]
    put_value(files[1], np.nan)
    model = tmp_path / "results" / trained.regions / f"{TRAINER}__{PLANS}__2d"
    predictor = load_predictor(model, 0, "checkpoint_final.pth", "cpu")
    with pytest.raises(SystemExit, match=rf"^{files[1]} holds 1 NaN or infinite voxels in channel 1: repair it.$"):
        read_case(CaseFiles(files, None), predictor)


def test_nifti_border_of_nan_is_predicted_as_one_of_zeros(trained, tmp_path, command):
    """ITK reads zeros, in training as well."""
    images = copy_images(trained, tmp_path / "images")
    for channel in range(2):
        image = nibabel.load(images / f"larger_{channel:04d}.nii.gz")
        for case, value in (("nan", np.nan), ("zero", 0)):
            voxels = image.get_fdata(dtype=np.float32)
            voxels[:5] = value
            nibabel.save(
                nibabel.Nifti1Image(voxels, image.affine, image.header), images / f"{case}_{channel:04d}.nii.gz"
            )
    main(command)
    found = masks(tmp_path / "out")
    assert found["nan"].any()
    np.testing.assert_array_equal(found["nan"], found["zero"])


def test_sheared_and_cut_off_images_are_named_and_the_others_are_predicted(trained, tmp_path, command):
    images = copy_images(trained, tmp_path / "images")
    sheared = images / f"{BROKEN}.nii.gz"
    image = nibabel.load(sheared)
    affine = image.affine.copy()
    affine[0, 1] += 0.4
    image = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), affine)
    image.set_qform(None, 0)
    nibabel.save(image, sheared)
    (images / "smaller_0000.nii.gz").write_bytes(b"")
    both = (
        rf"(?s)^Not predicted: .*{sheared} cannot be read \(.*orthonormal.*; .*smaller_0000.nii.gz, .* cannot be read"
    )
    with pytest.raises(SystemExit, match=both):
        main(command)
    assert masks(tmp_path / "out").keys() == {"as_large"}


def test_folder_without_images_is_refused(trained, tmp_path, command):
    (tmp_path / "images").mkdir()
    shutil.copy(next(images_of(trained).iterdir()), tmp_path / "images" / "scan.nii.gz")
    with pytest.raises(SystemExit, match=r"^There are no images \(\*_0000.nii.gz\) in "):
        main(command)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is such a device")
def test_device_that_is_not_there_is_named(trained, tmp_path, command):
    copy_images(trained, tmp_path / "images")
    with pytest.raises(SystemExit, match="^There is no MPS device here that torch can use: give -device cpu"):
        main([*command, "-device", "mps"])


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".gipl"])
def test_formats_that_itk_reads_although_they_are_cut_off(tmp_path, ending):
    path, whole = tmp_path / f"a_0000{ending}", np.random.default_rng(0).random((8, 40, 40), np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(whole), path)
    plans = PlansManager({"image_reader_writer": "SimpleITKIO"})
    np.testing.assert_array_equal(read_images([path], plans)[0][0], whole)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(UnusableImageError, match=f"^{path} is cut off$"):
        read_images([path], plans)
