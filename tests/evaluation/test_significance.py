"""Paired tests, intervals and what may not be compared."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.significance import holm, paired_tests, refuse_incomparable
from tests.evaluation.evaluations import make_evaluation, set_scores

A, B, C = (f"nnUNetTrainer{name} / plans / 2d" for name in ("A", "B", "C"))


def refused(*evaluations: dict) -> str:
    with pytest.raises(UserError) as error:
        refuse_incomparable(evaluations)
    assert "\n" not in str(error.value)
    return str(error.value)


# Tests


def test_it_is_wilcoxons_test_of_the_cases():
    a, b = make_evaluation(A, cases=30), make_evaluation(B, cases=30, quality=0.78)
    (test,) = paired_tests([a, b], "hd95")
    differences = [x["mean"]["hd95"] - y["mean"]["hd95"] for x, y in zip(a["cases"], b["cases"], strict=True)]
    assert test.p == wilcoxon(differences).pvalue == test.p_holm
    assert (test.a, test.b, test.class_name, test.n, test.note) == (A, B, "mean", 30, None)
    assert test.median_difference == np.median(differences)
    assert test.mean_difference == pytest.approx(np.mean(differences))
    assert test.low < test.mean_difference < test.high


def test_a_known_p_value():
    """Six pairs that all differ to one side: 2 of the 2^6 assignments of signs are as extreme."""
    a = set_scores(make_evaluation(A, cases=6), "dice", [0.91, 0.82, 0.73, 0.64, 0.55, 0.46])
    b = set_scores(make_evaluation(B, cases=6), "dice", [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    (test,) = paired_tests([a, b], "dice")
    assert test.p == pytest.approx(2 / 64)
    assert test.mean_difference == pytest.approx(0.035) and test.note is None


def test_equal_scores_have_p_1():
    a, b = (set_scores(make_evaluation(name), "dice", [0.5] * 10) for name in (A, B))
    (test,) = paired_tests([a, b], "dice")
    assert (test.p, test.p_holm, test.median_difference, test.note) == (1, 1, 0, "No pair differs.")


def test_few_pairs_are_tested_and_their_limit_is_said():
    (test,) = paired_tests([make_evaluation(A, cases=4), make_evaluation(B, cases=4, quality=0.3)], "dice")
    assert test.p == 0.125
    assert test.note == "With 4 pairs that differ p cannot fall below 0.125."


def test_cases_without_a_value_in_both_are_left_out():
    a = set_scores(make_evaluation(A), "dice", [None, *[0.9] * 9])
    b = set_scores(make_evaluation(B), "dice", [*[0.8] * 9, None])
    (test,) = paired_tests([a, b], "dice")
    assert test.n == 8
    b = set_scores(b, "dice", [0.8, *[None] * 9])
    (test,) = paired_tests([a, b], "dice")
    assert (test.n, test.p, test.p_holm, test.note) == (0, None, None, "No case has a value in both.")


def test_means_over_other_classes_are_no_pair():
    """A class that is missed has no distance: the mean of what was found would count for the model that misses it."""
    a, b = (make_evaluation(name, classes=("large", "small"), cases=24) for name in (A, B))
    for evaluation, missed in ((a, 12), (b, 0)):
        for number, case in enumerate(evaluation["cases"]):
            small = None if number < missed else 9.0 + number / 100
            case["classes"]["large"]["hd95"], case["classes"]["small"]["hd95"] = 1.0, small
            case["mean"]["hd95"] = 1.0 if small is None else (1.0 + small) / 2
    tests = {test.class_name: test for test in paired_tests([a, b], "hd95")}
    assert {name: (test.n, test.mean_difference, test.p) for name, test in tests.items()} == {
        "large": (24, 0, 1),
        "small": (12, 0, 1),
        "mean": (12, 0, 1),
    }


def test_cases_of_a_subject_count_once():
    a, b = (make_evaluation(name, cases=24, cases_per_subject=3) for name in (A, B))
    (test,) = paired_tests([a, b], "hd95")
    differences = [x["mean"]["hd95"] - y["mean"]["hd95"] for x, y in zip(a["cases"], b["cases"], strict=True)]
    by_subject = np.reshape(differences, (8, 3)).mean(1)
    assert (test.n, test.p) == (8, wilcoxon(by_subject).pvalue)
    assert test.median_difference == pytest.approx(np.median(by_subject))


def test_pairs_follow_the_case_and_not_the_order():
    a, b = make_evaluation(A), make_evaluation(B, quality=0.7)
    straight = paired_tests([a, b], "dice")
    b["cases"].reverse()
    assert paired_tests([a, b], "dice") == straight


def test_every_pair_and_class_is_tested_and_corrected_together():
    evaluations = [make_evaluation(name, classes=("one", "two"), cases=20) for name in (A, B, C)]
    tests = paired_tests(evaluations, "dice")
    pairs = [(A, B), (A, C), (B, C)]
    assert [(test.a, test.b, test.class_name) for test in tests] == [
        (*pair, name) for pair in pairs for name in ("one", "two", "mean")
    ]
    assert [test.p_holm for test in tests] == holm([test.p for test in tests])
    assert max(test.p_holm for test in tests) > max(test.p for test in tests)
    assert {test.class_name for test in paired_tests(evaluations, "miou")} == {"mean"}


def test_evaluations_of_one_name_are_told_apart_by_their_paths():
    a, b = make_evaluation(A), make_evaluation(A)
    b["path"] = "/other/evaluation/evaluation.json"
    for case in b["cases"]:
        case["prediction"] = f"/other/{case['case']}.nii.gz"
    (test,) = paired_tests([a, b], "dice")
    assert test.a != test.b and test.b == f"{A} (/other/evaluation)"


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


# Intervals


# What is refused


def test_comparable_evaluations_are_accepted():
    refuse_incomparable([make_evaluation(A)])
    refuse_incomparable([make_evaluation(A), make_evaluation(B), make_evaluation(C)])


def test_another_data_set():
    sentence = refused(make_evaluation(A), make_evaluation(B, dataset="Dataset027_ACDC"))
    assert "differ in the data set (Dataset501_Made and Dataset027_ACDC)" in sentence and A in sentence


def test_other_classes():
    sentence = refused(make_evaluation(A, classes=("one", "two")), make_evaluation(B, classes=("one", "three")))
    assert "the classes (two, three)" in sentence


def test_the_same_names_for_other_labels():
    """The two orders of Synapse's organs."""
    sentence = refused(make_evaluation(A, classes=("one", "two")), make_evaluation(B, classes=("two", "one")))
    assert "the classes (one, two)" in sentence


def test_other_cases():
    sentence = refused(make_evaluation(A, cases=10), make_evaluation(B, cases=8))
    assert "2 cases (case_008, case_009), which only one of them has" in sentence


def test_some_folds_only():
    b = make_evaluation(B)
    b["cases"], b["subset"] = [case for case in b["cases"] if case["fold"] == 0], True
    assert "because only some folds were evaluated" in refused(make_evaluation(A), b)


def test_other_folds():
    assert "the folds of 7 cases (case_003, case_004" in refused(make_evaluation(A), make_evaluation(B, folds=3))


def test_another_split_of_the_same_validation_cases():
    b = make_evaluation(B)
    b["split"]["sha256"] = "f" * 64
    assert "the split (sha256 0123456789ab and ffffffffffff)" in refused(make_evaluation(A), b)


def test_other_conventions():
    b = make_evaluation(B)
    b["conventions"] |= {"empty": "challenge", "average": "slice"}
    sentence = refused(make_evaluation(A), b)
    assert "the conventions (empty: nnunet and challenge; average: volume and slice)" in sentence
    del b["conventions"]["average"]
    b["conventions"] |= {"empty": "nnunet", "slice_axis": 2}
    assert "the conventions (average: volume and None; slice_axis: None and 2)" in refused(make_evaluation(A), b)


def test_everything_that_differs_is_said_at_once():
    b = make_evaluation(B, cases=8)
    b["conventions"]["empty"] = "challenge"
    sentence = refused(make_evaluation(A), b)
    assert "2 cases" in sentence and "and in the conventions" in sentence


def test_one_and_the_same():
    assert "very same predictions" in refused(make_evaluation(A), make_evaluation(A))


def test_what_is_missing_is_repeated():
    b = make_evaluation(B)
    b["missing"], b["summary"] = (
        ["Fold 2 is not finished (13 of 50 epochs): continue it with nnUNetv2_train --c."],
        None,
    )
    sentence = refused(make_evaluation(A), b)
    assert sentence.startswith(f"{B} is not complete: Fold 2 is not finished (13 of 50 epochs)")
    assert refused(b) == sentence
    with pytest.raises(UserError, match="Fold 2"):
        paired_tests([make_evaluation(A), b], "dice")


def test_partly_known_subjects_are_tested_as_cases():
    several = [make_evaluation(name, cases=12, cases_per_subject=2) for name in ("A / p / 2d", "B / p / 2d")]
    for evaluation in several:
        evaluation["split"]["subjects_known"] = False
        evaluation["cases"][0]["subject"] = None
    (test,) = paired_tests(several, "dice")
    assert (test.unit, test.n) == ("cases", 12)
