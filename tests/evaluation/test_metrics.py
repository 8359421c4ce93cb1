"""Metrics of one class of one case under the conventions."""

import pytest

from nnunet_sfma.evaluation.conventions import Conventions
from nnunet_sfma.evaluation.metrics import class_metrics, harmonic


def measured(tp: int, fp: int, fn: int, slices: list[list[int]] | None = None, empty_slices: int = 0) -> dict:
    """What :func:`measure_case` gives for a class; a surface voxel for each voxel."""
    there = {"hd95": 2.0, "hd95_pooled": 2.0, "asd": 1.0, "assd": 1.0} if tp + fp and tp + fn else {}
    within = {"within_prediction": tp, "within_reference": tp} if there else {}
    return {
        "counts": {"tp": tp, "fp": fp, "fn": fn, "tn": 100},
        "slices": slices or [[tp, fp, fn, 100]],
        "empty_slices": empty_slices,
        "surface": {"surface_prediction": tp + fp, "surface_reference": tp + fn, **there, **within},
        "lesions": {"reference": [[1.0, tp > 0]] if tp + fn else [], "predicted": int(tp + fp > 0), "false": 0},
        "volume_prediction": float(tp + fp),
        "volume_reference": float(tp + fn),
        "diagonal": 30.0,
        "pixel_diagonal": 20.0,
        "objects": {
            "tp": int(tp > 0),
            "fp": int(tp == 0 and fp > 0),
            "fn": int(tp == 0 and fn > 0),
            "object_dice": 0.7 if tp else (0.0 if fp + fn else None),
            "object_hausdorff": 3.0 if tp else None,
        },
    }


def values(case: dict, **conventions) -> dict:
    return class_metrics(case, Conventions(**conventions))[0]


@pytest.mark.parametrize(("tp", "expected"), [(64, 0), (65, 0.65), (90, 0.9)])
def test_threshold_jaccard_is_that_of_isic(tp, expected):
    assert values(measured(tp, 100 - tp, 0))["threshold_jaccard"] == expected


@pytest.mark.parametrize(
    ("rule", "metrics"),
    [
        ("nnunet", {"recall": None, "precision": 0, "lesion_recall": None, "object_dice": 0, "object_hausdorff": None}),
        ("challenge", {"recall": 0, "precision": 0, "lesion_recall": 0, "object_dice": 0, "object_hausdorff": 20}),
        ("transunet", {"recall": 1, "precision": 1, "lesion_recall": 1, "object_dice": 1, "object_hausdorff": 0}),
    ],
)
def test_false_alarm_on_an_empty_label(rule, metrics):
    found = values(measured(0, 5, 0), empty=rule)
    assert {key: found[key] for key in metrics} == metrics


def test_objects_keep_their_values_where_there_are_some():
    found = values(measured(5, 1, 1))
    assert (found["object_f1"], found["object_dice"], found["object_hausdorff"]) == (1, 0.7, 3)


def test_slices_are_items_of_the_mean():
    case = measured(5, 1, 4, slices=[[4, 0, 0, 1], [1, 1, 4, 1]], empty_slices=3)
    metrics, items = class_metrics(case, Conventions(average="slice"))
    assert metrics["dice"] == pytest.approx((1 + 2 / 7) / 2)
    assert items["dice"] == 2
    metrics, items = class_metrics(case, Conventions(average="slice", empty="challenge"))
    assert metrics["dice"] == pytest.approx((1 + 2 / 7 + 3) / 5)
    assert items["dice"] == items["specificity"] == 5
    assert class_metrics(case, Conventions())[1]["dice"] == 1


def test_harmonic_mean():
    assert harmonic(0.5, 1) == pytest.approx(2 / 3)
    assert harmonic(0.0, 0.0) == 0
    assert harmonic(None, 1) is None
