"""Means over fewer cases than there are: said by evaluate, compare and report, in every kind of table."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.evaluation.evaluation_file import read_evaluation
from nnunet_sfma.evaluation.fewer_cases import what_is_missing
from tests.evaluation.evaluations import make_evaluation
from tests.evaluation.folders import write_volume

LABELS = {"background": 0, "lesion": 1, "absent": 2}
DISTANCES = "HD95, HD95 (pooled), ASD, ASSD"


def arguments(predictions: str) -> list[str]:
    root = Path(predictions).parent
    return ["-i", predictions, "-l", str(root / "labels"), "-djfile", str(root / "dataset.json"), "-np", "1"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    """Folders of two models' predictions of 8 cases, evaluated.

    ``near`` is a voxel off where it finds the lesion, which is in every other case; ``far`` is two voxels off in all.
    No case has the class ``absent``.
    """
    root = tmp_path_factory.mktemp("models")
    for number in range(8):
        reference = np.zeros((4, 24, 24), np.uint8)
        reference[1:3, 6:14, 6:14] = 1
        masks = {
            "labels": reference,
            "near": np.roll(reference, 1, axis=2) * np.uint8(number % 2),
            "far": np.roll(reference, 2, axis=2),
        }
        for folder, mask in masks.items():
            write_volume(mask, root / folder / f"case_{number}.nii.gz", spacing=(1, 1, 1))
    description = {"channel_names": {"0": "MRI"}, "labels": LABELS, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(description))
    for name in ("near", "far"):
        main(["evaluate", *arguments(str(root / name))])
    return [str(root / "near"), str(root / "far")]


def test_evaluate_shows_numbers_of_cases_and_names_classes_without_a_value(models, capsys):
    main(["evaluate", *arguments(models[0])])
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if line.startswith("| HD95 (mm)")]
    assert "| 1.000 ± 0.000 (4) |" in row
    assert "No case has a value of Dice, IoU, Precision" in printed and "of absent; the means" in printed
    summary = list(csv.DictReader((Path(models[0]) / "evaluation" / "summary.csv").open()))
    numbers = {(row["class"], row["metric"]): row["n"] for row in summary}
    assert numbers["lesion", "hd95"] == "4" and numbers["lesion", "dice"] == "8"
    assert numbers["absent", "hd95"] == numbers["mean", "hd95"] == "0"


def test_compare_says_that_means_are_over_different_cases(models, capsys):
    main(["compare", *models, "--metrics", "dice", "hd95"])
    printed = capsys.readouterr().out
    rows = [line.split(" | ") for line in printed.splitlines() if " | 8 cases | lesion | " in line]
    assert [row[-1] for row in rows] == ["1.000 ± 0.000 (n = 4) |", "2.000 ± 0.000 |"]
    assert "(n = " not in rows[0][3] and "n: cases with a value" in printed
    assert (
        "The means of HD95 of lesion are over different cases and say nothing about which model is better: of 8 cases "
        "4 of near and 8 of far have a value; 4 have one in all."
    ) in printed
    assert "near: No case has a value of Dice, IoU" in printed
    main(["compare", *models, "--metrics", "hd95", "--json"])
    spreads = [line["spreads"][0] for line in json.loads(capsys.readouterr().out)["ours"]]
    assert spreads[:2] == [{"mean": 1, "sd": 0, "n": 4, "of": 8}, {"mean": 2, "sd": 0, "n": 8, "of": 8}]


def test_report_says_it_in_every_format(models, tmp_path):
    main(["report", *models, "-o", str(tmp_path / "report.html")])
    tables = tmp_path / "report_tables"
    sentences = ("are over different cases", "No case has a value of Dice")
    for name, text in (
        ("page", (tmp_path / "report.html").read_text()),
        ("markdown", (tables / "summary.md").read_text() + (tables / "tests.md").read_text()),
        ("latex", (tables / "summary.tex").read_text() + (tables / "tests.tex").read_text()),
    ):
        assert "(n = 4)" in text and all(sentence in text for sentence in sentences), name
    row = next(row for row in csv.DictReader((tables / "summary.csv").open()) if row["Class"] == "lesion")
    assert (row["HD95 (mm) ↓ mean"], row["HD95 (mm) ↓ n"], row["HD95 (mm) ↓ of"]) == ("1.0", "4", "8")
    figures = list(csv.DictReader((tables / "all-figures.csv").open()))
    assert [row["n"] for row in figures if row["Metric"] == "HD95 (mm)" and row["Class"] == "lesion"] == ["4", "8"]


def test_without_subjects_cases_are_tested_and_called_so(models, capsys, tmp_path):
    evaluation = read_evaluation(Path(models[0]))
    assert {case["subject"] for case in evaluation["cases"]} == {None}
    assert evaluation["split"]["subjects_known"] is False
    main(["compare", *models, "--metrics", "dice"])
    printed = capsys.readouterr().out
    assert "of cases: whom they show is not known" in printed and "of subjects" not in printed
    main(["compare", *models, "--metrics", "dice", "--json"])
    (test, *_) = json.loads(capsys.readouterr().out)["tests"]
    assert (test["unit"], test["n"]) == ("cases", 8)
    main(["report", *models, "-o", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text()
    assert "by bootstrap of cases" in page and "of cases: whom they show is not known" in page


def test_subjects_that_one_evaluation_knows_are_tested(models, capsys, tmp_path):
    paths = []
    for name, folder in zip("ab", models, strict=True):
        evaluation = json.loads((Path(folder) / "evaluation" / "evaluation.json").read_text())
        if name == "b":
            evaluation["split"]["subjects_known"] = True
            for number, case in enumerate(evaluation["cases"]):
                case["subject"] = f"subject {number // 4}"
        (tmp_path / name).mkdir()
        (tmp_path / name / "evaluation.json").write_text(json.dumps(evaluation))
        paths.append(str(tmp_path / name))
    main(["compare", *paths, "--metrics", "dice", "--json"])
    (test, *_) = json.loads(capsys.readouterr().out)["tests"]
    assert (test["unit"], test["n"]) == ("subjects", 2)


def test_a_fold_without_a_value_is_named():
    evaluation = make_evaluation()
    statistic = evaluation["summary"]["classes"]["lesion"]["hd95"]
    statistic["folds"][3] = statistic["mean_of_folds"] = None
    assert what_is_missing(evaluation) == [
        "No case of fold 3 has a value of HD95 of lesion, so no mean over folds is taken."
    ]
