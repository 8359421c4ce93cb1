"""Lesion-wise detection: connected components, hits and misses."""

import json

import numpy as np
import pytest

from nnunet_sfma.evaluation.lesions import (
    detection_by_size,
    lesion_count_difference,
    lesion_f1,
    lesion_recall,
    measure_lesions,
)


def volume(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros((10, 20, 20), bool)
    for box in boxes:
        mask[box] = True
    return mask


BIG = np.s_[2:5, 2:6, 2:6]
SMALL = np.s_[7:8, 15:16, 15:17]
FAR = np.s_[2:3, 12:14, 2:4]


def test_one_voxel_is_enough_for_a_hit():
    reference = volume(BIG, SMALL, FAR)
    prediction = volume(np.s_[4:8, 5:6, 5:6], np.s_[7:8, 15:16, 16:20], np.s_[9:10, 0:1, 0:2])
    measured = measure_lesions(prediction, reference, 0.5)
    assert measured == {"reference": [[1.0, True], [2.0, False], [24.0, True]], "predicted": 3, "false": 1}
    assert lesion_f1(measured) == pytest.approx(2 / (2 + (1 + 1) / 2))
    assert lesion_recall(measured) == pytest.approx(2 / 3)
    assert lesion_count_difference(measured) == 0
    assert json.loads(json.dumps(measured)) == measured


def test_a_predicted_lesion_may_hit_several_and_several_may_hit_one():
    bridge = measure_lesions(volume(np.s_[2:8, 2:16, 2:17]), volume(BIG, SMALL), 1)
    assert bridge == {"reference": [[2, True], [48, True]], "predicted": 1, "false": 0}
    assert lesion_f1(bridge) == 1
    assert lesion_count_difference(bridge) == 1
    pieces = measure_lesions(volume(np.s_[2:3, 2:3, 2:3], np.s_[4:5, 5:6, 5:6]), volume(BIG), 1)
    assert pieces == {"reference": [[48, True]], "predicted": 2, "false": 0}
    assert lesion_count_difference(pieces) == 1


def test_a_neighbour_is_no_hit():
    beside = measure_lesions(volume(np.s_[5:6, 2:6, 2:6]), volume(BIG), 1)
    assert beside == {"reference": [[48, False]], "predicted": 1, "false": 1}
    assert lesion_f1(beside) == lesion_recall(beside) == 0


@pytest.mark.parametrize(
    "second, lesions",
    [((1, 1, 2), 1), ((1, 2, 2), 1), ((2, 2, 2), 1), ((1, 1, 3), 2), ((3, 2, 2), 2)],
)
def test_voxels_that_share_a_corner_are_one_lesion(second, lesions):
    reference = np.zeros((5, 5, 5), bool)
    reference[1, 1, 1] = reference[second] = True
    assert len(measure_lesions(reference, reference, 1)["reference"]) == lesions


@pytest.mark.parametrize("as_given", [lambda mask: mask, lambda mask: mask[None]])
def test_pixels_that_share_a_corner_are_one_lesion(as_given):
    picture = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]], bool)
    measured = measure_lesions(as_given(picture), as_given(picture), 1)
    assert measured == {"reference": [[2, True], [2, True]], "predicted": 2, "false": 0}


def test_empty_masks():
    nothing = measure_lesions(volume(), volume(), 1)
    assert nothing == {"reference": [], "predicted": 0, "false": 0}
    assert lesion_f1(nothing) is None
    assert lesion_recall(nothing) is None
    assert lesion_count_difference(nothing) == 0
    missed = measure_lesions(volume(), volume(BIG, FAR), 1)
    assert (lesion_f1(missed), lesion_recall(missed), lesion_count_difference(missed)) == (0, 0, 2)
    invented = measure_lesions(volume(BIG, FAR), volume(), 1)
    assert invented == {"reference": [], "predicted": 2, "false": 2}
    assert (lesion_f1(invented), lesion_recall(invented), lesion_count_difference(invented)) == (0, None, 2)


def test_thousands_of_specks_are_counted():
    reference, specks = np.zeros((30, 60, 60), bool), np.zeros((30, 60, 60), bool)
    reference[4:7, 4:7, 4:7] = True
    specks[::2, ::2, ::2] = True
    measured = measure_lesions(specks, reference, 1)
    # even places within 4 to 6: two along each axis
    assert measured == {"reference": [[27, True]], "predicted": 15 * 30 * 30, "false": 15 * 30 * 30 - 8}


def test_detection_by_size_counts_the_lesions_of_all_cases():
    cases = [
        {"reference": [[0.05, False], [0.1, True], [5.0, True]], "predicted": 2, "false": 0},
        {"reference": [], "predicted": 1, "false": 1},
        {"reference": [[0.5, False], [1.0, False], [70.0, True]], "predicted": 2, "false": 1},
    ]
    assert detection_by_size(cases, [0, 0.1, 1, 10]) == [
        {"from": 0, "to": 0.1, "lesions": 1, "detected": 0},
        {"from": 0.1, "to": 1, "lesions": 2, "detected": 1},
        {"from": 1, "to": 10, "lesions": 2, "detected": 1},
        {"from": 10, "to": None, "lesions": 1, "detected": 1},
    ]
    assert detection_by_size([], [0]) == [{"from": 0, "to": None, "lesions": 0, "detected": 0}]


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        measure_lesions(np.ones((2, 3), bool), np.ones((3, 2), bool), 1)
