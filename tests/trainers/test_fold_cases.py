"""Folds that nnU-Net would replace by others or end on in a stack trace: our trainers and crossval refuse them."""

import json
import re

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from tests.trainers.conftest import TRAINER

CASES = [f"case_{number}" for number in range(6)]
THREE = [{"train": sorted({*CASES} - {*val}), "val": val} for val in (CASES[:2], CASES[2:4], CASES[4:])]


def refused(fold: int | str = 0) -> str:
    with pytest.raises(UserError) as error:
        get_trainer_from_args("1", "2d", fold, TRAINER, "tiny", device=torch.device("cpu")).do_split()
    assert "\n" not in str(error.value)
    return str(error.value)


def refused_by_crossval(*arguments: str) -> str:
    with pytest.raises(UserError) as error:
        main(["crossval", "-d", "1", "-tr", TRAINER, "-p", "tiny", "-device", "cpu", "--dry-run", *arguments])
    return str(error.value)


@pytest.fixture
def split(workspace, plan):
    """``split(folds)``: a user's own splits_final.json; plans "tiny"."""
    plan("training.num_epochs=1")
    path = workspace.preprocessed / workspace.plain / "splits_final.json"
    return lambda folds: path.write_text(json.dumps(folds))


def test_fold_that_the_users_own_split_does_not_have(split):
    split(THREE)
    trainer = get_trainer_from_args("1", "2d", 2, TRAINER, "tiny", device=torch.device("cpu"))
    assert trainer.do_split() == (CASES[:4], CASES[4:])
    for fold in (3, 7, -1):
        assert f"has no fold {fold}: train folds 0 to 2" in refused(fold)
    split(THREE[:1])
    assert "has no fold 1: train fold 0." in refused(1)


def test_faults_in_a_split(split):
    names = "of its 4 cases under 'train' that are not preprocessed"
    for train, val, sentence in (
        ([f"{case}_0000" for case in CASES[:4]], CASES[4:], f"names 4 {names} .*such as case_0"),
        ([f"{case}.nii.gz" for case in CASES[:4]], CASES[4:], f"names 4 {names} .*such as case_0"),
        ([*CASES[:3], "zz"], CASES[4:], f"names 1 {names} .zz.: correct the names"),
        (CASES[:4], ["zz"], "1 of its 1 cases under 'val' that are not preprocessed .zz."),
        (CASES[:5], CASES[4:], "trains and validates on the same cases .case_4."),
        (CASES, CASES, "trains and validates on the same cases"),
        (CASES[:4], [], "has no cases to validate on: list some under 'val'"),
        ([], CASES[4:], "has no cases to train on"),
    ):
        split([{"train": train, "val": val}, THREE[1]])
        for said in (refused(), refused_by_crossval()):
            assert said.startswith("Fold 0 of ")
            assert re.search(sentence, said), said
        main(["crossval", "-d", "1", "-tr", TRAINER, "-p", "tiny", "-device", "cpu", "--dry-run", "--folds", "1"])


def test_nnunets_own_split_needs_five_cases_and_has_five_folds(workspace, plan):
    plan("training.num_epochs=1")
    folder = workspace.preprocessed / workspace.plain
    assert "has no fold 5: train folds 0 to 4" in refused(5)
    assert not (folder / "splits_final.json").exists()
    for case in CASES[3:]:
        for path in (folder / "nnUNetPlans_2d").glob(f"{case}*"):
            path.unlink()
    for said in (refused(), refused_by_crossval()):
        assert "has 3 preprocessed cases, and nnU-Net draws five folds: write a splits_final.json by hand" in said
    whole = get_trainer_from_args("1", "2d", "all", TRAINER, "tiny", device=torch.device("cpu"))
    assert [sorted(side) for side in whole.do_split()] == [CASES[:3], CASES[:3]]
    for path in (folder / "nnUNetPlans_2d").iterdir():
        path.unlink()
    assert "nnUNetPlans_2d holds no preprocessed data, or other files among it: run nnUNetv2_preprocess" in refused()
