"""``nnunet-sfma evaluate`` on the folds of a model, trained and validated by nnU-Net itself."""

import html
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_sfma.cli import main
from nnunet_sfma.evaluation.evaluation_file import read_evaluation
from tests.conftest import SHORT_RECIPE, TINY_NETWORKS, Workspace
from tests.forked_workers import fork_workers
from tests.trainers.test_checkpoint_reader import RunsCode

TRAINER = "nnUNetTrainerSFMANet"
ARGUMENTS = ["evaluate", "-d", "1", "-tr", TRAINER, "-p", "tiny", "-np", "1"]
SPLIT = [
    {"train": ["case_2", "case_3", "case_4", "case_5"], "val": ["case_0", "case_1"]},
    {"train": ["case_0", "case_1"], "val": ["case_2", "case_3", "case_4", "case_5"]},
]


@pytest.fixture(scope="module")
def trained(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which two folds are trained for two epochs; not to be written to."""
    from nnunetv2.run.run_training import run_training

    from nnunet_sfma.planning.make_plans import make_plans

    copy = Workspace(tmp_path_factory.mktemp("trained") / "workspace")
    shutil.copytree(prepared.root, copy.root)
    (copy.preprocessed / copy.plain / "splits_final.json").write_text(json.dumps(SPLIT))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in copy.environment.items():
            patch.setenv(name, value)
        patch.setenv("nnUNet_n_proc_DA", "0")
        fork_workers(patch)
        make_plans(
            1, "sfmanet-narrow", [*TINY_NETWORKS["sfmanet-narrow"], *SHORT_RECIPE, "training.num_epochs=2"], name="tiny"
        )
        for fold in (0, 1):
            run_training("1", "2d", fold, TRAINER, "tiny", device=torch.device("cpu"))
    return copy.root


@pytest.fixture
def model(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trained model's folder, in a workspace of this test's own."""
    copy = Workspace(tmp_path / "workspace")
    shutil.copytree(trained, copy.root)
    for name, value in copy.environment.items():
        monkeypatch.setenv(name, value)
    return copy.results / copy.plain / f"{TRAINER}__tiny__2d"


def change_checkpoint(path: Path, **entries) -> None:
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    torch.save({**checkpoint, **entries}, path)


def test_folds_cases_and_overlaps_are_nnunets(model):
    main(ARGUMENTS)
    evaluation = read_evaluation(model)
    assert [fold["state"] for fold in evaluation["folds"]] == ["finished", "finished"]
    assert [case["fold"] for case in evaluation["cases"]] == [0, 0, 1, 1, 1, 1]
    assert evaluation["missing"] == []
    dice = evaluation["summary"]["classes"]["lesion"]["dice"]
    theirs = [json.loads((model / f"fold_{fold}" / "validation" / "summary.json").read_text()) for fold in (0, 1)]
    assert dice["folds"] == [summary["mean"]["1"]["Dice"] for summary in theirs]
    cases = [case["metrics"]["1"]["Dice"] for summary in theirs for case in summary["metric_per_case"]]
    assert [case["classes"]["lesion"]["dice"] for case in evaluation["cases"]] == cases
    assert dice["mean_of_folds"] == pytest.approx(sum(dice["folds"]) / 2)
    assert dice["sd_of_folds"] == pytest.approx(abs(dice["folds"][0] - dice["folds"][1]) / 2**0.5)


def test_what_a_report_needs_is_written_down(model):
    main(ARGUMENTS)
    evaluation = read_evaluation(model / "evaluation")
    assert len(evaluation["folds"][0]["curves"]["train_losses"]) == 2
    assert evaluation["folds"][0]["detail"] == "2 of 2 epochs"
    assert evaluation["folds"][0]["command"] == f"nnUNetv2_train 1 2d 0 -tr {TRAINER} -p tiny -device cpu"
    assert evaluation["folds"][0]["device"] == "cpu"
    assert evaluation["folds"][0]["seconds"] > 0
    assert evaluation["model"]["network"] == "SFMANet"
    assert evaluation["model"]["training"]["num_epochs"] == 2
    assert len(evaluation["split"]["sha256"]) == 64
    assert all(Path(path).is_file() for case in evaluation["cases"] for path in case["images"])
    assert len(evaluation["cases"][0]["images"]) == 1
    assert any(command.startswith("nnUNetv2_train 1 2d 1") for command in evaluation["commands"])
    assert evaluation["versions"]["nnunetv2"]


def test_unfinished_fold_is_named_and_not_averaged_over(model, capsys):
    (model / "fold_1" / "checkpoint_final.pth").rename(model / "fold_1" / "checkpoint_latest.pth")
    change_checkpoint(model / "fold_1" / "checkpoint_latest.pth", current_epoch=1)
    main(ARGUMENTS)
    printed = capsys.readouterr().out
    assert "Fold 1 is not finished (1 of 2 epochs): continue it with nnUNetv2_train 1 2d 1" in printed
    assert "| Dice" not in printed
    evaluation = read_evaluation(model)
    assert evaluation["summary"] is None
    assert len(evaluation["missing"]) == 1
    assert [case["case"] for case in evaluation["cases"]] == ["case_0", "case_1"]
    assert len((model / "evaluation" / "summary.csv").read_text().splitlines()) == 1


def test_some_folds_do_not_cost_the_others_their_measurements(model):
    main(ARGUMENTS)
    cache = model / "evaluation" / "measurements.jsonl"
    before = cache.read_text()
    main([*ARGUMENTS, "-f", "0"])
    main(ARGUMENTS)
    assert cache.read_text() == before


def test_fold_that_was_asked_for_must_be_finished(model):
    shutil.rmtree(model / "fold_1")
    main([*ARGUMENTS, "-f", "0"])
    assert read_evaluation(model)["subset"] is True
    with pytest.raises(SystemExit, match="Fold 1 is not trained: run nnUNetv2_train 1 2d 1"):
        main([*ARGUMENTS, "-f", "0", "1"])
    with pytest.raises(SystemExit, match="The split has no fold 2: it has folds 0 to 1"):
        main([*ARGUMENTS, "-f", "2"])


def _lost_prediction(model: Path) -> None:
    (model / "fold_1" / "validation" / "case_3.nii.gz").unlink()


def _other_trainer(model: Path) -> None:
    change_checkpoint(model / "fold_1" / "checkpoint_final.pth", trainer_name="nnUNetTrainerDANIE")


def _other_plans(model: Path) -> None:
    path = model / "fold_1" / "checkpoint_final.pth"
    arguments = torch.load(path, map_location="cpu", weights_only=False)["init_args"]
    arguments["plans"]["configurations"]["2d"]["batch_size"] = 3
    change_checkpoint(path, init_args=arguments)


def _strange_case(model: Path) -> None:
    shutil.copy(model / "fold_0" / "validation" / "case_0.nii.gz", model / "fold_1" / "validation")


def _damaged_checkpoint(model: Path) -> None:
    (model / "fold_0" / "checkpoint_final.pth").write_bytes(b"half")


def _other_axes(model: Path) -> None:
    path = model / "fold_1" / "checkpoint_final.pth"
    arguments = torch.load(path, map_location="cpu", weights_only=False)["init_args"]
    arguments["plans"]["transpose_forward"] = [2, 0, 1]
    change_checkpoint(path, init_args=arguments)


def _damaged_splits(model: Path) -> None:
    path = model.parents[2] / "nnUNet_preprocessed" / model.parent.name / "splits_final.json"
    path.write_text(json.dumps([{"train": ["case_0"]}]))


def _log_of_another_kind(model: Path) -> None:
    change_checkpoint(model / "fold_0" / "checkpoint_final.pth", logging=None)


def _checkpoint_that_runs_code(model: Path) -> None:
    change_checkpoint(model / "fold_0" / "checkpoint_final.pth", logging=RunsCode(model / "victim"))


def _lost_label(model: Path) -> None:
    preprocessed = model.parents[2] / "nnUNet_preprocessed" / model.parent.name
    (preprocessed / "gt_segmentations" / "case_2.nii.gz").unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_other_trainer, "trained by nnUNetTrainerDANIE, but lies in a folder of nnUNetTrainerSFMANet"),
        (_other_plans, r"Fold 1 .* other plans than the model's folder holds \(batch_size: 3 then, 4 now\)"),
        (_strange_case, r"does not validate in fold 1 \(case_0\)"),
        (_damaged_checkpoint, "checkpoint_final.pth cannot be read"),
        (_other_axes, r"other plans than the model's folder holds \(transpose_forward: \[2, 0, 1\] then"),
        (_damaged_splits, "splits_final.json is damaged"),
        (_log_of_another_kind, "checkpoint_final.pth cannot be read"),
        (_checkpoint_that_runs_code, "checkpoint_final.pth holds posix.mkdir, which may run code and was not loaded"),
        (_lost_label, "There is no label .*case_2.nii.gz"),
    ],
)
def test_mixed_or_damaged_results(model, spoil, sentence):
    spoil(model)
    with pytest.raises(SystemExit, match=sentence):
        main(ARGUMENTS)
    assert not (model / "evaluation" / "evaluation.json").exists()
    assert not (model / "victim").exists()


def test_lost_prediction_is_missing(model):
    _lost_prediction(model)
    main(ARGUMENTS)
    assert read_evaluation(model)["missing"] == [
        f"Fold 1 has predictions for 3 of 4 cases: run nnUNetv2_train 1 2d 1 -tr {TRAINER} -p tiny --val."
    ]


def test_validation_without_its_end_is_missing(model):
    (model / "fold_1" / "validation" / "summary.json").unlink()
    main(ARGUMENTS)
    assert read_evaluation(model)["missing"] == [
        f"Fold 1 was not validated to the end: run nnUNetv2_train 1 2d 1 -tr {TRAINER} -p tiny --val."
    ]


def test_no_model(model):
    with pytest.raises(SystemExit, match="There is no model in .*: train it, or check -d, -tr, -p and -c"):
        main([*ARGUMENTS[:-3], "other"])


def test_real_model_in_a_report_and_a_comparison(model, tmp_path, capsys):
    main(ARGUMENTS)
    main(["report", str(model), "-o", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text()
    assert read_evaluation(model)["split"]["sha256"] in page
    assert f"nnUNetv2_train 1 2d 1 -tr {TRAINER} -p tiny" in page
    capsys.readouterr()
    main(["compare", str(model)])
    printed = capsys.readouterr().out
    assert f"| {TRAINER} / tiny / 2d | 2 folds |" in printed
    assert "No table of the papers covers this data set" in printed
    with pytest.raises(SystemExit, match="the very same predictions"):
        main(["compare", str(model), str(model / "evaluation")])


def test_unfinished_model_is_reported_as_such_and_not_compared(model, tmp_path):
    shutil.rmtree(model / "fold_1")
    main(ARGUMENTS)
    main(["report", str(model), "-o", str(tmp_path / "report.html")])
    assert "Fold 1 is not trained: run nnUNetv2_train 1 2d 1" in (tmp_path / "report.html").read_text()
    with pytest.raises(SystemExit, match="is not complete: Fold 1 is not trained"):
        main(["compare", str(model)])


def test_the_exact_commands(model, tmp_path):
    """With all options that were typed, and none of a fold that was never trained."""
    typed = f"nnUNetv2_train 1 2d 0 -tr {TRAINER} -p tiny -pretrained_weights 'my weights.pth' -device cpu"
    (model / "fold_0" / "training_command.json").write_text(json.dumps({"command": shlex.split(typed)}))
    np.savez(model / "fold_0" / "validation" / "case_0.npz", probabilities=np.zeros((2, 1, 1, 1)))
    shutil.rmtree(model / "fold_1")
    main(ARGUMENTS)
    commands = read_evaluation(model)["commands"]
    settings = [*TINY_NETWORKS["sfmanet-narrow"], *SHORT_RECIPE, "training.num_epochs=2"]
    plan = ["nnunet-sfma", "plan", "-d", "1", "--preset", "sfmanet-narrow", "-p", "nnUNetPlans", "--name", "tiny"]
    assert commands[:3] == [
        "nnUNetv2_plan_and_preprocess -d 1 -c 2d",
        shlex.join([*plan, "--set", *settings]),
        f"{typed} --npz",
    ]
    assert len(commands) == 4 and commands[3].startswith("nnunet-sfma evaluate")
    main(["report", str(model / "evaluation"), "-o", str(tmp_path / "report.html")])
    page = html.unescape((tmp_path / "report.html").read_text())
    assert f"{typed} --npz" in page and "nnUNetv2_train 1 2d 1" not in page.split("Commands of")[1].split("</pre>")[0]


@pytest.mark.parametrize("content", ["{", '{"command": ["rm", "-rf", "/", "x"]}', '{"command": "nnUNetv2_train"}'])
def test_a_note_of_another_command_counts_for_nothing(model, content):
    (model / "fold_0" / "training_command.json").write_text(content)
    plans = json.loads((model / "plans.json").read_text())
    (model / "plans.json").write_text(json.dumps({**plans, "made_by": ["rm", "-rf", "/"]}))
    main(ARGUMENTS)
    commands = read_evaluation(model)["commands"]
    assert commands[:2] == [
        "nnUNetv2_plan_and_preprocess -d 1 -c 2d",
        f"nnUNetv2_train 1 2d 0 -tr {TRAINER} -p tiny -device cpu",
    ]
