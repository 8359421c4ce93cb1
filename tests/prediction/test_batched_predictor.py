"""The batched predictor against nnU-Net's: the same logits, with less memory as well."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_sfma.errors import UserError
from nnunet_sfma.prediction.batched_predictor import BatchedPredictor
from tests.conftest import Workspace
from tests.prediction.conftest import model_of

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
PIXELS = 40 * 32
ONE_AT_A_TIME, DEFAULT = 1, None
NO_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if ..."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
]


class OutOfMemory(nn.Conv2d):
    """A network for which memory suffices up to a number of images, or not at all for some times.

    Attributes:
        batches: the number of images of each call.
    """

    def __init__(self, most_images: int, fails: int = 0, error: RuntimeError = NO_MEMORY[0]):
        torch.manual_seed(0)
        super().__init__(1, 2, 3, padding=1)
        self.most_images, self.fails, self.error, self.batches = most_images, fails, error, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x))
        self.fails -= 1
        if len(x) > self.most_images or self.fails >= 0:
            raise self.error
        return super().forward(x)


class NoMemoryForLogits(TorchDispatchMode):
    """Memory does not suffice for the logits of more images together than these."""

    def __init__(self, most_images: int):
        super().__init__()
        self.most_images = most_images

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.cat.default and out.shape[1] == 2 and len(out) > self.most_images:
            raise NO_MEMORY[0]
        return out


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(
    ("pixels_at_once", "options"),
    [
        (ONE_AT_A_TIME, {}),
        (ONE_AT_A_TIME, {"use_mirroring": False}),
        (2 * PIXELS, {}),
        (DEFAULT, {}),
        (DEFAULT, {"use_mirroring": False}),
        (DEFAULT, {"use_gaussian": False, "tile_step_size": 0.3}),
    ],
)
def test_logits_are_those_of_nnunet(trained: Workspace, device: str, pixels_at_once: int | None, options: dict):
    data = torch.randn(2, 3, 60, 32, generator=torch.Generator().manual_seed(0))
    stock, batched = (kind(device=torch.device(device), **options) for kind in (nnUNetPredictor, BatchedPredictor))
    for predictor in (stock, batched):
        predictor.initialize_from_trained_model_folder(str(model_of(trained)), (0, 1))
    if pixels_at_once:
        batched.pixels_at_once = pixels_at_once
    expected, logits = (each.predict_logits_from_preprocessed_data(data.clone()) for each in (stock, batched))
    assert logits.dtype == expected.dtype == torch.half
    if pixels_at_once == ONE_AT_A_TIME and device == "cpu":
        assert torch.equal(logits, expected)
    if device == "cpu":
        torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    else:  # other batches, other convolutions, in float16
        assert (logits.argmax(0) == expected.argmax(0)).float().mean() > 0.99


def test_last_batch_is_divided_into_powers_of_two(predictor_of: Callable[[nn.Module], BatchedPredictor]):
    """Memory for 20 images, seven patches, four copies of each: batches of four, two and one patch."""
    network = OutOfMemory(most_images=1000)
    predictor = predictor_of(network)
    predictor.pixels_at_once = 20 * PIXELS
    predictor.predict_logits_from_preprocessed_data(torch.randn(1, 7, 40, 32))
    assert network.batches == [16, 8, 4]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_batch_is_halved_until_memory_suffices(
    error: RuntimeError, predictor_of: Callable[[nn.Module], BatchedPredictor]
):
    data = torch.randn(1, 5, 40, 50)  # three tiles a slice
    expected = predictor_of(OutOfMemory(most_images=1000)).predict_logits_from_preprocessed_data(data)
    network = OutOfMemory(most_images=3, error=error)
    predictor = predictor_of(network)
    predictor.pixels_at_once = 16 * PIXELS
    logits = predictor.predict_logits_from_preprocessed_data(data)
    assert network.batches == [16, 8, 4, *[2] * (5 * 3 * 4 // 2)]
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    network.batches.clear()
    predictor.predict_logits_from_preprocessed_data(data)
    assert set(network.batches) == {2}


def test_batch_is_halved_until_memory_suffices_for_its_logits(predictor_of: Callable[[nn.Module], BatchedPredictor]):
    data = torch.randn(1, 8, 40, 32)
    expected = predictor_of(OutOfMemory(most_images=1000)).predict_logits_from_preprocessed_data(data)
    network = OutOfMemory(most_images=1000)
    predictor = predictor_of(network)
    predictor.pixels_at_once = 16 * PIXELS
    with NoMemoryForLogits(most_images=8):
        logits = predictor.predict_logits_from_preprocessed_data(data)
    assert network.batches == [16, *[8] * 4]
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


def test_other_errors_are_no_lack_of_memory(predictor_of: Callable[[nn.Module], BatchedPredictor]):
    network = OutOfMemory(most_images=0, error=RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        predictor_of(network).predict_logits_from_preprocessed_data(torch.randn(1, 3, 40, 32))
    assert set(network.batches) == {8}


def test_results_move_to_the_cpu_when_memory_does_not_suffice_for_one_image(
    predictor_of: Callable[[nn.Module], BatchedPredictor],
):
    data = torch.randn(1, 3, 40, 32)
    expected = predictor_of(OutOfMemory(most_images=1000)).predict_logits_from_preprocessed_data(data)
    network = OutOfMemory(most_images=1000, fails=4)
    predictor = predictor_of(network)
    predictor.perform_everything_on_device = True
    predictor.pixels_at_once = 8 * PIXELS
    logits = predictor.predict_logits_from_preprocessed_data(data)
    assert network.batches == [8, 4, 2, 1, *[1] * 12]
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


def test_lack_of_memory_for_one_image_is_told(predictor_of: Callable[[nn.Module], BatchedPredictor]):
    with pytest.raises(torch.cuda.OutOfMemoryError):
        predictor_of(OutOfMemory(most_images=0)).predict_logits_from_preprocessed_data(torch.randn(1, 3, 40, 32))


class OfValues(nn.Conv2d):
    """Its output depends on the voxels by a function that is not finite everywhere."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__(1, 2, 1)
        self.function = function

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(self.function(images))


def write_images(folder: Path) -> None:
    """Of one voxel far from the others once they are normalised: its logarithm is NaN, or its exponential too large."""
    for case, (most, one) in {"bright": (1, 2), "dark": (2, 1), "plain": (1, 1)}.items():
        voxels = np.full((1, 40, 32), most, np.float32)
        voxels[0, 20, 16] = one
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / f"{case}_0000.nii.gz"))


def as_if_too_large(images: torch.Tensor) -> torch.Tensor:
    if images.max() > 10:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return images


@pytest.mark.parametrize(
    ("function", "left_out", "why", "processes"),
    [
        (torch.log1p, "dark", "the network's output is not a number", 0),
        (torch.exp, "bright", "the network's output is not a number", 1),
        (as_if_too_large, "bright", "memory does not suffice", 0),
    ],
    ids=["nan", "infinite", "too large"],
)
def test_case_that_cannot_be_predicted_is_left_out(
    predictor_of: Callable[[nn.Module], BatchedPredictor],
    tmp_path: Path,
    function: Callable[[torch.Tensor], torch.Tensor],
    left_out: str,
    why: str,
    processes: int,
):
    write_images(tmp_path)
    predictor, out = predictor_of(OfValues(function)), tmp_path / "out"
    predictor.predict_from_files(
        str(tmp_path),
        str(out),
        save_probabilities=True,
        num_processes_preprocessing=0,
        num_processes_segmentation_export=processes,
    )
    (said,) = predictor.unusable
    assert said.startswith(f"{left_out} ({why}")
    others = {"bright", "dark", "plain"} - {left_out}
    assert {path.name for path in out.glob("*.nii.gz")} == {f"{case}.nii.gz" for case in others}
    assert {path.stem for path in out.glob("*.npz")} == others
    assert {Path(path).name for path in predictor.outputs} == others


@pytest.mark.parametrize("why", ["cannot be read", "is not a number"])
def test_results_that_are_returned_are_of_all_cases_or_none(
    predictor_of: Callable[[nn.Module], BatchedPredictor], tmp_path: Path, why: str
):
    """Nothing but their order tells which case they are of."""
    write_images(tmp_path)
    if why == "cannot be read":
        (tmp_path / "bright_0000.nii.gz").write_bytes(b"")
    predictor = predictor_of(OfValues(torch.abs if why == "cannot be read" else torch.log1p))
    with pytest.raises(UserError, match=f"^Not predicted: .*{why}"):
        predictor.predict_from_files(
            [[str(path)] for path in sorted(tmp_path.glob("*.nii.gz"))],
            None,
            num_processes_preprocessing=0,
            num_processes_segmentation_export=0,
        )


def test_3d_configuration_is_predicted_by_nnunet(prepared: Workspace):
    torch.manual_seed(0)
    network, image = nn.Conv3d(1, 2, 3, padding=1), torch.randn(1, 6, 90, 50)
    stock, batched = (_predictor(kind, network, prepared, "3d_fullres") for kind in (nnUNetPredictor, BatchedPredictor))
    expected, logits = (each.predict_logits_from_preprocessed_data(image) for each in (stock, batched))
    assert torch.equal(logits, expected)


@pytest.fixture
def predictor_of(prepared: Workspace) -> Callable[[nn.Module], BatchedPredictor]:
    """``predictor_of(network)``: of patches of 40 x 32 with that network, mirroring along both axes."""
    return lambda network: _predictor(BatchedPredictor, network, prepared, "2d")


def _predictor(kind: type[nnUNetPredictor], network: nn.Module, workspace: Workspace, configuration: str):
    predictor = kind(device=torch.device("cpu"), allow_tqdm=False)
    plans = PlansManager(load_json(workspace.preprocessed / workspace.plain / "nnUNetPlans.json"))
    labels = {"labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    axes = tuple(range(2 if configuration == "2d" else 3))
    configuration = plans.get_configuration(configuration)
    predictor.manual_initialization(network, plans, configuration, [network.state_dict()], labels, "", axes)
    return predictor
