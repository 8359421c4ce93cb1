"""Means, deviations and intervals over cases and folds."""

from collections.abc import Hashable, Sequence

import numpy as np
import pytest

from nnunet_sfma.evaluation.statistics import bootstrap_interval, describe

NAN = float("nan")


def interval(values: Sequence[float], subjects: Sequence[Hashable]) -> tuple[float | None, float | None]:
    column = np.array(values, dtype=float)[:, None]
    return bootstrap_interval(column, np.ones_like(column), subjects)


def test_interval_is_deterministic_and_about_the_mean():
    values = np.random.default_rng(1).normal(0.8, 0.1, 50)
    low, high = interval(values, range(50))
    assert interval(values, range(50)) == (low, high)
    half = 1.96 * values.std() / 50**0.5
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.003)


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [interval(rng.normal(0, 1, 40), range(40)) for _ in range(200)]
    assert 0.88 <= np.mean([low <= 0 <= high for low, high in intervals]) <= 0.98


def test_interval_is_wider_where_cases_share_subjects():
    """Ten copies of each of eight values tell no more than the eight values."""
    values = np.random.default_rng(2).normal(0, 1, 8)
    once = interval(values, range(8))
    assert interval(np.repeat(values, 10), np.repeat(range(8), 10)) == pytest.approx(once)
    low, high = interval(np.repeat(values, 10), range(80))
    assert high - low < 0.6 * (once[1] - once[0])


def test_interval_weighs_subjects_by_their_cases():
    """Drawn are one subject twice (means 0 and 1) or both (0.75): never a mean beyond the values."""
    assert interval([0, 1, 1, 1], ["one", "two", "two", "two"]) == (0, 1)


def test_interval_of_less_than_two_subjects_is_none():
    assert interval([0.5, 0.6], ["one", "one"]) == (None, None)
    assert interval([0.5, NAN, NAN], ["one", "two", "three"]) == (None, None)


def test_mean_over_classes_is_nnunets_foreground_mean():
    values = np.array([[0.2, 0.4], [0.6, NAN], [NAN, NAN]])
    described = describe(values, np.ones_like(values), [None] * 3, ["a", "b", "c"])
    assert described["mean"] == pytest.approx((0.4 + 0.4) / 2)
    assert described["n"] == 2
    assert described["sd"] == pytest.approx(np.std([0.3, 0.6], ddof=1))
    assert described["low"] <= described["mean"] <= described["high"]
    nowhere = np.array([[0.2, NAN], [0.6, NAN]])
    assert describe(nowhere, np.ones_like(nowhere), [None] * 2, ["a", "b"])["mean"] is None


def test_folds_have_their_own_means():
    values = np.array([[0.1], [0.3], [0.8]])
    described = describe(values, np.ones_like(values), [0, 0, 1], ["a", "b", "c"])
    assert described["folds"] == pytest.approx([0.2, 0.8])
    assert described["mean_of_folds"] == pytest.approx(0.5)
    assert described["sd_of_folds"] == pytest.approx(np.std([0.2, 0.8], ddof=1))
    assert described["mean"] == pytest.approx(0.4)


def test_slices_weigh_a_case():
    values, weights = np.array([[1.0], [0.0]]), np.array([[30.0], [10.0]])
    assert describe(values, weights, [None] * 2, ["a", "b"])["mean"] == pytest.approx(0.75)


def test_fold_without_a_value_leaves_no_mean_over_folds():
    values = np.array([[0.1], [NAN]])
    described = describe(values, np.ones_like(values), [0, 1], ["a", "b"])
    assert described["folds"] == [pytest.approx(0.1), None]
    assert described["mean_of_folds"] is None
    assert described["mean"] == pytest.approx(0.1)


def test_interval_uses_the_weights():
    values = np.linspace(0, 1, 20)[:, None]
    low, _ = bootstrap_interval(values, np.where(values > 0.5, 100.0, 1.0), range(20))
    assert low > 0.6
    assert interval(values[:, 0], range(20))[0] < 0.5


def test_means_are_numpys_to_the_last_digit():
    values = np.random.default_rng(5).random((260, 2))
    values[7, 1] = NAN
    described = describe(values, np.ones_like(values), [0] * 260, [str(case) for case in range(260)])
    assert described["mean"] == described["folds"][0] == np.mean([np.nanmean(column) for column in values.T])
