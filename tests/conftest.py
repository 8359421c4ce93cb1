"""Tiny data sets, preprocessed by nnU-Net itself, in folders of the test session."""

import os
from pathlib import Path

# all are read once, at import: nnU-Net's worker processes; small figures; one thread for each of pytest's processes;
# and threads that sleep instead of spin while they wait, which on few and busy cores is faster by an order of magnitude
os.environ["nnUNet_def_n_proc"] = os.environ["nnUNet_npp"] = os.environ["nnUNet_nps"] = "1"
os.environ["MATPLOTLIBRC"] = str(Path(__file__).parent)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import fcntl
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

# At the end: new processes have to find the tests, and everybody the installed package rather than the checkout.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from tests.forked_workers import fork_workers

TINY_NETWORKS = {
    "sfmanet-narrow": ("architecture.features_per_stage=[16,32]", "architecture.iem_stages=1"),
    "danie-narrow": ("architecture.features_per_stage=[32,32,32,32]", "architecture.blocks_per_stage=1"),
}
SHORT_RECIPE = ("training.iterations_per_epoch=2", "training.val_iterations_per_epoch=1", "batch_size=4")


@dataclass(frozen=True)
class Workspace:
    """nnU-Net's three folders, with two planned and preprocessed data sets.

    Data set 1 has one channel and a lesion; data set 2 has two channels, regions and an ignore label.
    """

    root: Path
    plain: str = "Dataset001_Plain"
    regions: str = "Dataset002_Regions"

    @property
    def environment(self) -> dict[str, str]:
        return {name: str(self.root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}

    def point_to_it(self, patch: pytest.MonkeyPatch) -> None:
        """Set nnU-Net's variables to the three folders."""
        for name, value in self.environment.items():
            patch.setenv(name, value)

    @property
    def raw(self) -> Path:
        return self.root / "nnUNet_raw"

    @property
    def preprocessed(self) -> Path:
        return self.root / "nnUNet_preprocessed"

    @property
    def results(self) -> Path:
        return self.root / "nnUNet_results"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The workspace that tests copy; not to be written to."""
    return Workspace(build_once("workspace", _prepare, tmp_path_factory))


def build_once(name: str, build: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the test session: the first of pytest's processes that asks for it fills it, the others wait."""
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    folder, unfinished = session / name, session / f"{name}.unfinished"
    with (session / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            build(unfinished)
            unfinished.rename(folder)
    return folder


def _prepare(root: Path) -> None:
    workspace = Workspace(root)
    for folder in workspace.environment.values():
        Path(folder).mkdir()
    _write_dataset(workspace.raw / workspace.plain, 1, {"background": 0, "lesion": 1})
    regions = {"background": 0, "lesion": [1, 2], "core": 2, "ignore": 3}
    _write_dataset(workspace.raw / workspace.regions, 2, regions)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in workspace.environment.items():
            patch.setenv(name, value)
        patch.setenv("nnUNet_n_proc_DA", "1")
        plan_and_preprocess([1, 2])


@pytest.fixture(scope="session")
def counted_networks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What ``nnunet-sfma networks --json`` counts, for half a minute."""

    def count(folder: Path) -> None:
        from nnunet_sfma.planning.cost_table import cost_rows, to_json

        (folder / "networks.json").write_text(to_json(cost_rows()))

    return json.loads((build_once("networks", count, tmp_path_factory) / "networks.json").read_text())["networks"]


@pytest.fixture
def workspace(prepared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of the prepared workspace that nnU-Net's variables point to."""
    copy = Workspace(tmp_path / "workspace")
    shutil.copytree(prepared.root, copy.root)
    for name, value in copy.environment.items():
        monkeypatch.setenv(name, value)
    # augmentation in the training process itself: starting workers takes longer than these trainings
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    fork_workers(monkeypatch)
    return copy


def plan_and_preprocess(dataset_ids: list[int]) -> None:
    """What ``nnUNetv2_plan_and_preprocess -c 2d --verify_dataset_integrity`` does, in a tenth of the time.

    nnU-Net draws 100 million voxels, with replacement, for its statistics: fewer will do here.
    """
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments, preprocess
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    with pytest.MonkeyPatch.context() as patch:
        fork_workers(patch)
        for dataset_id in dataset_ids:
            extractor = DatasetFingerprintExtractor(dataset_id, 1)
            verify_dataset_integrity(extractor.input_folder, 1)
            extractor.num_foreground_voxels_for_intensitystats = 100_000
            extractor.run(overwrite_existing=True)
        plan_experiments(dataset_ids)
        preprocess(dataset_ids, configurations=("2d",), num_processes=(1,))


def _write_dataset(folder: Path, channels: int, labels: dict) -> None:
    """Six volumes of 32 x 40 x 5 voxels: noise with a bright ball, on an oblique grid with an origin of its own."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(6):
        rng = np.random.default_rng(case)
        label = _ball(rng, inner=2 if channels == 2 else 1)
        if channels == 2:
            label[:, :3] = 3
        for channel in range(channels):
            image = rng.normal(0, 1, label.shape) + 5 * ((label == 1) | (label == 2)) + 10
            _write(image.astype(np.float32), folder / "imagesTr" / f"case_{case}_{channel:04d}.nii.gz")
        _write(label, folder / "labelsTr" / f"case_{case}.nii.gz")
    description = {
        "channel_names": {str(channel): f"MRI{channel}" for channel in range(channels)},
        "labels": labels,
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    if channels == 2:
        description["regions_class_order"] = [1, 2]
    (folder / "dataset.json").write_text(json.dumps(description))


def _ball(rng: np.random.Generator, inner: int) -> np.ndarray:
    z, y, x = np.indices((5, 40, 32))
    centre = rng.uniform((1.5, 12, 10), (3.5, 28, 22))
    distance = np.sqrt((4 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    return np.where(distance < 4, inner, (distance < 8).astype(np.uint8)).astype(np.uint8)


def _write(array: np.ndarray, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.9, 0.9, 4.0))
    image.SetOrigin((12.5, -30.25, 7.75))
    image.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))
