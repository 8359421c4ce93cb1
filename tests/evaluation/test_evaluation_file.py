"""``evaluation.json`` as other people's programs, accidents and friends leave it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.evaluation_file import read_evaluation, to_json
from tests.evaluation.evaluations import make_evaluation


def write(folder: Path, change: Callable[[dict], object] = lambda _: None) -> Path:
    evaluation = json.loads(to_json(make_evaluation(cases=3)))
    change(evaluation)
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def test_evaluation_of_the_first_release_is_read(tmp_path):
    evaluation = read_evaluation(write(tmp_path))
    assert "cost" not in evaluation["model"] and evaluation["cases"][2]["case"] == "case_002"


WRONG = {
    "format": lambda e: e.update(format=2),
    "cases": lambda e: e.update(cases=[]),
    "dataset.classes": lambda e: e["dataset"].update(classes=[]),
    "dataset.slice_axis": lambda e: e["dataset"].update(slice_axis=7),
    "dataset.release_options": lambda e: e["dataset"].update(release_options={"paper_slices": "all"}),
    "model.batch_size": lambda e: e["model"].update(batch_size=1e40),
    "model.spacing[0]": lambda e: e["model"].update(spacing=[float("nan"), 1]),
    "cases[1].spacing[0]": lambda e: e["cases"][1].update(spacing=[0, 1, 1]),
    "cases[1].classes.lesion.dice": lambda e: e["cases"][1]["classes"]["lesion"].update(dice="1"),
    "cases[1].classes": lambda e: e["cases"][1].update(classes={"other": {"dice": 1}}),
    "cases[0].case": lambda e: e["cases"][0].update(case="\x1b[2J"),
    "summary.classes": lambda e: e["summary"].update(classes={}),
    "summary.mean.dice": lambda e: e["summary"]["mean"].update(dice={"mean": 1}),
    "folds[0].curves.lrs": lambda e: e["folds"][0].update(curves={"lrs": 1}),
    "metrics[0]": lambda e: e["metrics"][0].pop("title"),
    "split.subjects_known": lambda e: e["split"].update(subjects_known="no"),
    "convention_texts": lambda e: e["convention_texts"].pop("f1"),
}


@pytest.mark.parametrize("place", WRONG)
def test_what_is_wrong_is_named(tmp_path, place, capsys):
    write(tmp_path, WRONG[place])
    for command in (["compare", str(tmp_path)], ["report", str(tmp_path), "-o", str(tmp_path / "report.html")]):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        sentence = str(stopped.value)
        assert f"evaluation.json is damaged ({place}" in sentence
        assert sentence.endswith("make it again with nnunet-sfma evaluate.")
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


def test_half_a_character_is_no_text(tmp_path):
    text = json.dumps(make_evaluation(cases=1)).replace("case_000", "\\ud800")
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(SystemExit, match="surrogate pair"):
        main(["compare", str(tmp_path)])


def test_training_blocks_of_others_are_not_described(tmp_path, capsys):
    write(tmp_path, lambda e: e.update(model={**e["model"], "training": {"epochs": 3}}))
    main(["compare", str(tmp_path), "--release", "isles2022"])
    printed = capsys.readouterr().out
    assert "Ours: not recorded." in printed


def test_mean_f1_of_earlier_versions_is_that_of_the_classes(tmp_path):
    evaluation = make_evaluation(cases=6, classes=("a", "b"))
    evaluation["conventions"]["f1"] = "f1-of-means"
    for name, f1 in (("a", 0.2), ("b", 0.8)):
        evaluation["summary"]["classes"][name]["f1"] |= {"mean": f1, "folds": [f1, 1.0]}
    evaluation["summary"]["mean"]["f1"]["mean"] = 0.32  # as from means over both classes
    (tmp_path / "evaluation.json").write_text(to_json(evaluation))
    read = read_evaluation(tmp_path)
    assert read["summary"]["mean"]["f1"]["mean"] == pytest.approx(0.5)
    assert read["summary"]["mean"]["f1"]["folds"] == pytest.approx([0.5, 1])
    assert "mean of theirs" in read["convention_texts"]["f1"]


def test_classes_without_f1_have_no_mean_of_it(tmp_path):
    evaluation = make_evaluation(cases=3)
    evaluation["conventions"]["f1"] = "f1-of-means"
    del evaluation["summary"]["classes"]["lesion"]["f1"]
    (tmp_path / "evaluation.json").write_text(to_json(evaluation))
    with pytest.raises(UserError, match="no F1"):
        read_evaluation(tmp_path)
