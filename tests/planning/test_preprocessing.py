"""When ``nnunet-sfma plan`` preprocesses: data is known to be of these plans, and of the raw files as they are."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from nnunet_sfma.made_for import NOTE
from nnunet_sfma.planning.make_plans import make_plans
from nnunet_sfma.planning.preprocessing import is_preprocessed
from nnunet_sfma.preprocessed_age import outdated_cases
from tests.forked_workers import fork_workers

COARSE = [*("plan", "-d", "1", "--preset", "sfmanet-narrow", "--name", "coarse", "-np", "1", "--set")]
SETTINGS = ("batch_size=2", "patch_size=[16,16]", "training.num_epochs=1")
ALREADY = "All cases are preprocessed already"


def command(spacing: float, *options: str) -> list[str]:
    return [*COARSE, *SETTINGS, f"spacing=[{spacing},{spacing}]", *options]


@pytest.fixture(scope="module")
def planned(prepared, tmp_path_factory):
    """The workspace with data of 1.8 mm for the plans "coarse"; not to be written to."""
    copy = type(prepared)(tmp_path_factory.mktemp("planned") / "workspace")
    shutil.copytree(prepared.root, copy.root)
    with pytest.MonkeyPatch.context() as patch:
        copy.point_to_it(patch)
        fork_workers(patch)
        main(command(1.8))
    return copy


@pytest.fixture
def coarse(planned, tmp_path, monkeypatch) -> Path:
    """The data set's folder in a nnUNet_preprocessed of its own."""
    copy = type(planned)(tmp_path / "workspace")
    shutil.copytree(planned.root, copy.root)
    copy.point_to_it(monkeypatch)
    return copy.preprocessed / copy.plain


def replace_plans_and_be_killed(spacing: float) -> None:
    """What the command does before it preprocesses."""
    settings = [*SETTINGS, f"spacing=[{spacing},{spacing}]"]
    make_plans(1, "sfmanet-narrow", settings, name="coarse", overwrite=True)


def load(folder: Path, case: str = "case_0", data: str = "coarse_2d") -> tuple[np.ndarray, np.ndarray]:
    """Preprocessed image and segmentation, without the channel."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    image, segmentation, *_ = nnUNetDatasetBlosc2(str(folder / data)).load_case(case)
    return np.asarray(image)[0], np.asarray(segmentation)[0]


def test_data_of_replaced_plans_is_made_again_by_the_same_command(coarse, capsys):
    assert load(coarse)[0].shape == (5, 20, 16)
    replace_plans_and_be_killed(3.6)
    main(command(3.6))
    assert ALREADY not in capsys.readouterr().out
    assert load(coarse)[0].shape == (5, 10, 8)
    main(command(3.6))
    assert ALREADY in capsys.readouterr().out


def test_data_of_an_earlier_version_counts_until_its_plans_are_replaced(coarse, capsys):
    shutil.rmtree(coarse / "coarse_2d" / NOTE.parent)
    main(command(1.8))
    assert ALREADY in capsys.readouterr().out
    replace_plans_and_be_killed(3.6)
    assert not is_preprocessed(coarse / "coarse.json")


def test_data_of_plans_that_were_removed_does_not_count(coarse):
    (coarse / "coarse.json").unlink()
    make_plans(1, "sfmanet-narrow", [*SETTINGS, "spacing=[3.6,3.6]"], name="coarse")
    assert not is_preprocessed(coarse / "coarse.json")


def test_data_of_other_plans_is_not_trained_with(coarse):
    from nnunetv2.run.run_training import get_trainer_from_args

    replace_plans_and_be_killed(3.6)
    sentence = r"coarse_2d was preprocessed for other plans than 'coarse' are now \(spacing\)"
    with pytest.raises(UserError, match=sentence):
        get_trainer_from_args("1", "2d", 0, "nnUNetTrainerSFMANet", "coarse", device=torch.device("cpu"))
    folds = [{"train": ["case_0", "case_1"], "val": ["case_2"]}]
    (coarse / "splits_final.json").write_text(json.dumps(folds))
    with pytest.raises(UserError, match=sentence):
        main(["crossval", "-d", "1", "-tr", "nnUNetTrainerSFMANet", "-p", "coarse", "-device", "cpu", "--dry-run"])
    assert not list(Path(os.environ["nnUNet_results"]).iterdir())
    replace_plans_and_be_killed(1.8)
    get_trainer_from_args("1", "2d", 0, "nnUNetTrainerSFMANet", "coarse", device=torch.device("cpu"))


def start(plans: str) -> None:
    """Our trainer, up to where it reads data."""
    from nnunetv2.run.run_training import get_trainer_from_args

    get_trainer_from_args("1", "2d", 0, "nnUNetTrainerSFMANet", plans, device=torch.device("cpu"))


def write_plans(folder: Path, source: str, name: str, **changes) -> None:
    """A copy of plans, as somebody makes it by hand."""
    plans = json.loads((folder / f"{source}.json").read_text())
    plans["configurations"] = {"2d": {**plans["configurations"]["2d"], **changes}}
    (folder / f"{name}.json").write_text(json.dumps({**plans, "plans_name": name}))


def test_data_of_a_name_of_its_own_is_of_those_plans_whose_spacing_its_cases_have(coarse):
    """As after ``nnUNetv2_preprocess``, which keeps no note, for one of two plans that share it."""
    shutil.rmtree(coarse / "coarse_2d" / NOTE.parent)
    (coarse / "coarse_2d").rename(coarse / "x_2d")
    write_plans(coarse, "coarse", "first", data_identifier="x_2d")
    write_plans(coarse, "coarse", "second", data_identifier="x_2d", spacing=[3.6, 3.6])
    start("first")
    advice = (
        "first share the data, so make these plans again with nnunet-sfma plan --overwrite, or if you wrote them by "
        "hand, let their data_identifier be 'second_2d' and run nnUNetv2_preprocess -d 1 -plans_name second -c 2d"
    )
    with pytest.raises(UserError, match=rf"x_2d was preprocessed for other plans .*second.* \(spacing\): {advice}"):
        start("second")
    write_plans(coarse, "second", "second", resampling_fn_data="no_resampling_hack", resampling_fn_data_kwargs={})
    start("second")  # whose cases would be as large as they came
    (coarse / "x_2d" / "case_0.pkl").write_bytes(b"")
    start("first")


def test_corrected_label_is_preprocessed_again_whatever_its_time(coarse, capsys):
    raw = Path(os.environ["nnUNet_raw"], coarse.name)
    label = raw / "labelsTr" / "case_0.nii.gz"
    image = sitk.ReadImage(str(label))
    corrected = np.zeros_like(sitk.GetArrayFromImage(image))
    corrected[1:4, 10:20, 10:20] = 1
    new = sitk.GetImageFromArray(corrected)
    new.CopyInformation(image)
    sitk.WriteImage(new, str(label))
    os.utime(label, (10**9, 10**9))
    capsys.readouterr()
    main(command(1.8))
    assert ALREADY not in capsys.readouterr().out
    assert set(np.flatnonzero((load(coarse)[1] > 0).any(axis=(1, 2)))) == {1, 2, 3}
    copy = sitk.ReadImage(str(coarse / "gt_segmentations" / "case_0.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(copy), corrected)
    assert outdated_cases(raw, coarse, "coarse_2d") == []
    assert outdated_cases(raw, coarse, "nnUNetPlans_2d") == ["case_0"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "coarse_2d" / "case_5.pkl").write_bytes(b""),
        lambda folder: (folder / "coarse_2d" / "case_5.b2nd").unlink(),
        lambda folder: (folder / "gt_segmentations" / "case_5.nii.gz").unlink(),
        lambda folder: (folder / "coarse_2d" / "case_9.pkl").write_bytes(b"."),
    ],
    ids=["cut off", "half a case", "no reference", "a case that is gone"],
)
def test_incomplete_data_does_not_count(coarse, damage):
    assert is_preprocessed(coarse / "coarse.json")
    damage(coarse)
    assert not is_preprocessed(coarse / "coarse.json")


def test_raw_files_that_are_cut_off_are_not_preprocessed(coarse):
    images = Path(os.environ["nnUNet_raw"], coarse.name, "imagesTr")
    for case in (0, 3):
        path = images / f"case_{case}_0000.nii.gz"
        path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(UserError, match="^2 raw files are cut off .*case_0_0000.nii.gz, .*case_3_0000.nii.gz"):
        main(command(1.8))


def test_data_that_nnunet_made_anew_for_its_own_plans_is_refused_for_those_of_before(coarse):
    make_plans(1, "sfmanet-narrow", SETTINGS, name="shared")
    check = ["crossval", "-d", "1", "-tr", "nnUNetTrainerSFMANet", "-p", "shared", "-device", "cpu", "--dry-run"]
    main(check)
    planned = json.loads((coarse / "nnUNetPlans.json").read_text())
    planned["configurations"]["2d"]["spacing"] = [2.5, 2.5]
    (coarse / "nnUNetPlans.json").write_text(json.dumps(planned))
    with pytest.raises(UserError, match=r"than 'shared' are now \(spacing\): nnUNetPlans share .*overwrite"):
        main(check)
    make_plans(1, "sfmanet-narrow", SETTINGS, name="shared", overwrite=True)
    with pytest.raises(UserError, match=r"\(spacing\): run nnUNetv2_preprocess -d 1 -plans_name shared -c 2d.$"):
        main(check)
    preprocess([1], "shared", ("2d",), (1,))
    main(check)
