"""Folds of one model that start at the same time."""

import json
import threading

import pytest
from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunet_sfma.trainers.complete_plans import complete_plans
from tests.trainers.conftest import TRAINER


@pytest.fixture
def saved(workspace):
    """Where another fold writes the model's plans; cut off at the moment."""
    folder = workspace.results / workspace.plain / f"{TRAINER}__nnUNetPlans__2d"
    assert str(folder) == get_output_folder(workspace.plain, TRAINER, "nnUNetPlans", "2d")
    folder.mkdir(parents=True)
    path = folder / "plans.json"
    path.write_text('{"dataset_name": ')
    return path


def complete(workspace, saved):
    plans = json.loads((workspace.preprocessed / workspace.plain / "nnUNetPlans.json").read_text())
    return complete_plans(plans, "2d", "sfmanet-narrow", saved.parent)


def test_plans_that_another_fold_is_writing(workspace, saved):
    saved.unlink()
    whole = json.dumps(complete(workspace, saved))
    saved.write_text(whole[:100])
    writer = threading.Timer(0.5, saved.write_text, [whole])
    writer.start()
    assert json.dumps(complete(workspace, saved)) == whole
    writer.join()


def test_plans_that_stay_damaged(workspace, saved):
    with pytest.raises(SystemExit, match=r"plans.json is damaged: restore it, or remove it before you train again\."):
        complete(workspace, saved)
