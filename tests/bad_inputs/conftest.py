"""A kitchen: everything that a command can be pointed to, tiny and whole."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.crossval.models import Model
from nnunet_sfma.crossval.prediction_record import remember
from nnunet_sfma.crossval.predictions import find_prediction
from tests.bad_inputs.commands import MODEL, TRAINER, whole
from tests.conftest import SHORT_RECIPE, TINY_NETWORKS, Workspace
from tests.dataset_conversion import releases
from tests.forked_workers import fork_workers


@pytest.fixture(scope="module")
def kitchen(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with nnU-Net's three folders, to which its variables point, and what the commands have made of them.

    Data set 1 is planned, split and trained (fold 0), its model evaluated and explained; data set 4 holds slices.
    """
    root = tmp_path_factory.mktemp("kitchen")
    shutil.copytree(prepared.root, root, dirs_exist_ok=True)
    (root / "present").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        Workspace(root).point_to_it(patch)
        patch.setenv("nnUNet_n_proc_DA", "0")
        patch.chdir(root / "present")
        with pytest.MonkeyPatch.context() as cooking:
            fork_workers(cooking)
            _cook(root)
        yield root


def _cook(root: Path) -> None:
    for name, tree in releases.TREES.items():
        (root / "releases" / name).mkdir(parents=True)
        (root / "releases" / name).joinpath("release").symlink_to(tree.build(root / "releases" / name))
    plain = Workspace(root).raw / "Dataset001_Plain"
    for test, training in (("images", "case_0_0000"), ("labels", "case_0")):
        (plain / f"{test}Ts").mkdir()
        shutil.copy(plain / f"{test}Tr" / f"{training}.nii.gz", plain / f"{test}Ts")
    main(whole("convert isles2022", "-d", "4", "--paper-slices", root=root))
    main(["splits", "-d", "1", "--scheme", "five-fold"])
    settings = [*TINY_NETWORKS["sfmanet-narrow"], *SHORT_RECIPE, "training.num_epochs=1"]
    main(["plan", "-d", "1", "--preset", "sfmanet-narrow", "--name", "tiny", "--set", *settings])
    _train(root)
    main(whole("evaluate", root=root))
    main(whole("explain", root=root))
    _write_by_hand(root)


def _train(root: Path) -> None:
    from nnunetv2.run.run_training import run_training

    run_training("1", "2d", 0, TRAINER, "tiny", device=torch.device("cpu"))


def _write_by_hand(root: Path) -> None:
    """Predictions, weights, and the notes of commands that start others."""
    workspace = Workspace(root)
    model = workspace.results / "Dataset001_Plain" / MODEL
    shutil.copytree(model / "fold_0" / "validation", root / "predictions")
    shutil.copytree(workspace.raw / "Dataset001_Plain" / "labelsTr", root / "labels")
    for label in (root / "labels").iterdir():
        if not (root / "predictions" / label.name).exists():
            label.unlink()
    for description in ("dataset.json", "plans.json"):
        shutil.copy(model / description, root / "predictions")
    subjects = {f"case_{number}": f"patient_{number}" for number in range(6)}
    (workspace.raw / "Dataset001_Plain" / "subjects.json").write_text(json.dumps(subjects))
    (root / "folders" / "case_0_0000.nii.gz").mkdir(parents=True)
    torch.save({"state_dict": {}}, root / "weights.pth")
    (model / "fold_1").mkdir()
    (model / "fold_1" / "checkpoint_best.pth").touch()
    notes = model.parent / "crossval"
    notes.mkdir(exist_ok=True)
    preprocessed = workspace.preprocessed / "Dataset001_Plain"
    shutil.copy(preprocessed / "splits_final.json", notes / f"{MODEL}.split.json")
    shutil.copy(preprocessed / "tiny.json", notes / f"{MODEL}.plans.json")
    prediction = find_prediction(
        Model("Dataset001_Plain", TRAINER, "tiny", "2d"),
        ["0"],
        workspace.raw / "Dataset001_Plain" / "imagesTs",
        root / "predicted",
        "cpu",
        1,
    )
    prediction.output.mkdir()
    remember(prediction)
    submission = {"name": "a", "command": "b", "submitted": "c", "folds": {"0": "1_0"}, "finish": "2"}
    (notes / f"{MODEL}.slurm.json").write_text(json.dumps(submission))
