"""The page that crossval writes shows every model of the data set that can be compared, not those of one call."""

import json
from pathlib import Path

from nnunet_sfma.cli import main
from nnunet_sfma.evaluation.evaluation_file import to_json
from tests.conftest import Workspace
from tests.crossval.conftest import CROSSVAL, model_folder
from tests.evaluation.evaluations import make_evaluation
from tests.trainers.conftest import TRAINER


def evaluated(workspace: Workspace, plans: str, cases: int = 5, missing: tuple[str, ...] = ()) -> Path:
    folder = model_folder(workspace, plans) / "evaluation"
    folder.mkdir(parents=True)
    evaluation = make_evaluation(f"{TRAINER} / {plans} / 2d", cases=cases, folds=2, dataset=workspace.plain)
    (folder / "evaluation.json").write_text(to_json({**evaluation, "missing": list(missing)}))
    return folder


def reported(capsys, *options: str) -> tuple[list[Path], str]:
    """The evaluations that the page would show, and the page's name."""
    capsys.readouterr()
    main([*CROSSVAL, "--dry-run", *options])
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert words[:2] == ["nnunet-sfma", "report"] and words[-2] == "-o"
    return [Path(word) for word in words[2:-2]], Path(words[-1]).name


def test_a_further_model_stands_beside_the_comparable_ones(two_folds, capsys):
    earlier = evaluated(two_folds, "earlier")
    evaluated(two_folds, "other-cases", cases=6)
    evaluated(two_folds, "unfinished", missing=["Fold 1 is not trained."])
    (evaluated(two_folds, "damaged") / "evaluation.json").write_text("{")
    own = model_folder(two_folds) / "evaluation"
    assert reported(capsys) == ([own], "report.html")  # nothing can be compared with what is not there yet
    assert evaluated(two_folds, "tiny") == own
    assert reported(capsys) == ([own, earlier], "report.html")


def test_a_look_at_some_folds_leaves_the_page_of_all_alone(two_folds, capsys):
    assert reported(capsys, "--folds", "1")[1] == "report_folds_1.html"
    assert reported(capsys, "--folds", "0-1")[1] == "report.html"


def test_plans_of_today_and_of_older_releases_say_the_same(two_folds, plan):
    """Plans that only differ in what made them are one: an older file has no such entry."""
    path = two_folds.preprocessed / two_folds.plain / "tiny.json"
    plans = json.loads(path.read_text())
    command = plans.pop("made_by")
    assert command[:8] == ["nnunet-sfma", "plan", "-d", "1", "--preset", "sfmanet-narrow", "-p", "nnUNetPlans"]
    path.write_text(json.dumps(plans))
    plan("training.num_epochs=3")
    assert json.loads(path.read_text()) == {**plans, "made_by": command}
