"""GlaS' object-wise scores: hand-made glands, and real ones where they are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nnunet_sfma.evaluation.objects import instances, measure_objects, object_f1


def picture(*boxes: tuple[slice, slice], shape=(40, 60)) -> np.ndarray:
    """The boxes, numbered 1, 2, ..."""
    labels = np.zeros(shape, np.int32)
    for number, box in enumerate(boxes, start=1):
        labels[box] = number
    return labels


LEFT = np.s_[10:20, 5:15]
RIGHT = np.s_[10:20, 15:35]
LOW = np.s_[30:34, 40:50]


def test_identical_maps_are_perfect_whatever_their_numbers():
    reference = picture(LEFT, RIGHT, LOW)
    other_numbers = np.array([0, 70, 3, 12])[reference]
    measured = measure_objects(other_numbers, reference)
    assert measured == {"tp": 3, "fp": 0, "fn": 0, "object_dice": 1.0, "object_hausdorff": 0.0}
    assert object_f1(measured) == 1
    assert json.loads(json.dumps(measured)) == measured


def test_a_missed_gland_goes_to_the_nearest():
    measured = measure_objects(picture(LEFT), picture(LEFT, LOW))
    assert (measured["tp"], measured["fp"], measured["fn"]) == (1, 0, 1)
    assert object_f1(measured) == pytest.approx(2 / 3)
    # areas 100 and 40; LEFT's corner (10, 5) is farthest from its nearest pixel of LOW, (30, 40)
    assert measured["object_dice"] == pytest.approx((100 / 140 + 1) / 2)
    assert measured["object_hausdorff"] == pytest.approx((40 / 140 * np.hypot(20, 35) + 0) / 2)


def test_an_invented_gland_counts_by_its_area():
    measured = measure_objects(picture(LEFT, LOW), picture(LEFT))
    assert (measured["tp"], measured["fp"], measured["fn"]) == (1, 1, 0)
    assert measured["object_dice"] == pytest.approx((1 + 100 / 140) / 2)
    assert measured["object_hausdorff"] == pytest.approx((40 / 140 * np.hypot(20, 35)) / 2)


def test_touching_glands_merge_into_one():
    reference = picture(LEFT, RIGHT)
    measured = measure_objects(instances(reference > 0), reference)
    assert (measured["tp"], measured["fp"], measured["fn"]) == (1, 0, 1)
    # of 300 predicted pixels 100 are LEFT's and 200 RIGHT's, which is the one that belongs to the prediction
    left, right = 2 * 100 / 400, 2 * 200 / 500
    assert measured["object_dice"] == pytest.approx(((100 * left + 200 * right) / 300 + right) / 2)
    # 20 columns beyond LEFT, 10 beyond RIGHT
    assert measured["object_hausdorff"] == pytest.approx(((100 * 20 + 200 * 10) / 300 + 10) / 2)


def test_a_shift_is_the_hausdorff_distance():
    measured = measure_objects(picture(np.s_[13:23, 9:19]), picture(LEFT))
    dice = 2 * (7 * 6) / 200
    assert measured == pytest.approx({"tp": 0, "fp": 1, "fn": 1, "object_dice": dice, "object_hausdorff": 5.0})


@pytest.mark.parametrize("columns, hits", [(5, 1), (4, 0)])
def test_half_of_the_area_is_a_hit(columns, hits):
    measured = measure_objects(picture(np.s_[10:20, 5 : 5 + columns]), picture(LEFT))
    assert (measured["tp"], measured["fp"], measured["fn"]) == (hits, 1 - hits, 1 - hits)


def test_both_halves_of_a_gland_are_one_hit():
    measured = measure_objects(picture(np.s_[10:20, 5:10], np.s_[10:20, 10:15]), picture(LEFT))
    assert (measured["tp"], measured["fp"], measured["fn"]) == (1, 1, 0)
    assert object_f1(measured) == pytest.approx(2 / 3)


def test_the_hausdorff_distance_looks_into_the_middle_of_objects():
    disc = picture(np.s_[5:26, 5:26])
    ring = disc.copy()
    ring[6:25, 6:25] = 0
    assert measure_objects(ring, disc)["object_hausdorff"] == 10


@pytest.mark.parametrize("seed", range(10))
def test_scores_agree_with_all_pairs_of_objects_and_pixels(seed):
    rng = np.random.default_rng(seed)
    prediction, reference = (scattered_boxes(rng, 8) for _ in range(2))
    measured = measure_objects(prediction, reference)
    expected_dice, expected_hausdorff = np.mean(
        [by_definition(reference, prediction), by_definition(prediction, reference)], axis=0
    )
    assert measured["object_dice"] == pytest.approx(expected_dice)
    assert measured["object_hausdorff"] == pytest.approx(expected_hausdorff)


def scattered_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    corners = zip(
        rng.integers(0, 35, number), rng.integers(0, 55, number), rng.integers(2, 9, (number, 2)), strict=True
    )
    return picture(*(np.s_[y : y + height, x : x + width] for y, x, (height, width) in corners))


def by_definition(labels: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Dice and Hausdorff distance, each object with its own, weighted by area."""
    dice, hausdorff, areas = [], [], []
    for number in np.unique(labels[labels > 0]):
        mask = labels == number
        candidates = [others == other for other in np.unique(others[others > 0])]
        shared = [(mask & other).sum() for other in candidates]
        distances = [far_apart(mask, other) for other in candidates]
        own = int(np.argmax(shared))
        areas.append(mask.sum())
        dice.append(2 * shared[own] / (mask.sum() + candidates[own].sum()))
        hausdorff.append(distances[own] if shared[own] else min(distances))
    return np.average(dice, weights=areas), np.average(hausdorff, weights=areas)


def far_apart(one: np.ndarray, other: np.ndarray) -> float:
    pairs = cdist(np.argwhere(one), np.argwhere(other))
    return max(pairs.min(axis=0).max(), pairs.min(axis=1).max())


def test_empty_sides():
    nothing = measure_objects(picture(), picture())
    assert nothing == {"tp": 0, "fp": 0, "fn": 0, "object_dice": None, "object_hausdorff": None}
    assert object_f1(nothing) is None
    missed = measure_objects(picture(), picture(LEFT, LOW))
    assert missed == {"tp": 0, "fp": 0, "fn": 2, "object_dice": 0.0, "object_hausdorff": None}
    assert object_f1(missed) == 0
    invented = measure_objects(picture(LEFT, LOW), picture())
    assert invented == {"tp": 0, "fp": 2, "fn": 0, "object_dice": 0.0, "object_hausdorff": None}


def test_a_picture_may_have_a_leading_axis():
    prediction, reference = picture(LEFT, LOW), picture(RIGHT, LOW)
    assert measure_objects(prediction[None], reference[None]) == measure_objects(prediction, reference)


def test_instances_are_components_of_eight_neighbours():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool)
    expected = np.array([[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0], [3, 3, 0, 0]])
    assert np.array_equal(instances(mask), expected)
    assert np.array_equal(instances(mask[None]), expected[None])


@pytest.mark.parametrize(
    "shapes, sentence", [(((4, 5), (5, 4)), "same shape"), (((2, 4, 5), (2, 4, 5)), "measured in pictures")]
)
def test_what_is_no_picture_is_refused(shapes, sentence):
    with pytest.raises(ValueError, match=sentence):
        measure_objects(*(np.ones(shape, int) for shape in shapes))


@pytest.mark.parametrize("name", ["testA_1", "train_3"])
def test_real_glands(name):
    data = os.environ.get("NNUNET_SFMA_REAL_DATA")
    if not data:
        pytest.skip("NNUNET_SFMA_REAL_DATA is not set (a folder that holds glas)")
    from PIL import Image

    reference = np.array(Image.open(next(Path(data, "glas").rglob(f"{name}_anno.bmp")))).astype(int)
    same = measure_objects(reference, reference)
    assert (object_f1(same), same["object_dice"], same["object_hausdorff"]) == (1, 1, 0)
    moved = measure_objects(instances(np.roll(reference, 3, axis=0) > 0), reference)
    assert 0.8 < moved["object_dice"] < 1
    assert moved["object_hausdorff"] > 0
    merged = measure_objects(instances(reference > 0), reference)
    assert object_f1(merged) <= 1
    assert (merged == same) == (instances(reference > 0).max() == reference.max())
