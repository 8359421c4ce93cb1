"""Means, deviations and intervals of per-case metrics, over cases and over folds."""

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np

RESAMPLES = 2000
MEAN = "mean"
"""Stands for the mean over the classes."""


def describe(values: np.ndarray, weights: np.ndarray, folds: Sequence[int | None], subjects: Sequence[str]) -> dict:
    """Mean, deviations and 95 % interval of one metric, as in ``evaluation.json``.

    With one column, the mean is that of the cases that have a value. With several, one for each class, it is the mean
    of the classes' means, as nnU-Net's ``foreground_mean``.

    Args:
        values: (cases, classes), NaN where there is none.
        weights: of the same shape; how many items each value is the mean of.
        folds: of each case; all None where there are no folds.
        subjects: of each case, or the cases themselves unless all subjects are known; resampling draws subjects, since
            cases of one subject are not independent.

    Returns:
        ``mean``, ``sd`` over cases (of each case's mean over classes; n - 1), ``n`` cases with a value, the percentile
        bootstrap interval of the mean ``low`` to ``high`` (None for fewer than two subjects), ``folds`` with each
        fold's mean, ``mean_of_folds`` and ``sd_of_folds`` (n - 1). None where there is no value.
    """
    there = np.isfinite(values)
    weights = np.where(there, weights, 0.0)
    per_case = _ratio((np.where(there, values, 0) * there).sum(1), there.sum(1))
    per_fold = [
        _mean(values[rows], weights[rows]) for rows in (np.equal(folds, fold) for fold in sorted(_known(folds)))
    ]
    low, high = bootstrap_interval(values, weights, subjects)
    return {
        "mean": _number(_mean(values, weights)),
        "sd": _deviation(per_case[np.isfinite(per_case)]),
        "n": int(np.isfinite(per_case).sum()),
        "low": low,
        "high": high,
        "folds": [_number(value) for value in per_fold],
        "mean_of_folds": _number(np.mean(per_fold)) if per_fold else None,
        "sd_of_folds": _deviation(np.array(per_fold)),
    }


def _known(folds: Sequence[int | None]) -> set[int]:
    return {fold for fold in folds if fold is not None}


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """The mean over classes of the means over cases."""
    # class by class in one run of memory, as numpy then adds up like nnU-Net, to the last digit
    sums, totals = (np.ascontiguousarray(each.T).sum(1) for each in (np.nan_to_num(values) * weights, weights))
    return float(_ratio(sums, totals).mean())


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _deviation(values: np.ndarray) -> float | None:
    return _number(values.std(ddof=1)) if len(values) > 1 else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def bootstrap_interval(
    values: np.ndarray, weights: np.ndarray, subjects: Sequence[Hashable]
) -> tuple[float | None, float | None]:
    """The 95 % percentile interval of the mean, from resampling subjects with all their cases; always the same draws.

    Args:
        values, weights, subjects: as in :func:`describe`.

    Returns:
        Its lower and upper end; None with fewer than two subjects or without a mean.
    """
    weights = np.where(np.isfinite(values), weights, 0.0)
    with_value = weights.any(1)
    values, weights = values[with_value], weights[with_value]
    subjects = [subject for subject, there in zip(subjects, with_value, strict=True) if there]
    names = {subject: number for number, subject in enumerate(dict.fromkeys(subjects))}
    if len(names) < 2 or not np.isfinite(_mean(values, weights)):
        return None, None
    index = [names[subject] for subject in subjects]
    sums, totals = (np.zeros((len(names), values.shape[1])) for _ in range(2))
    np.add.at(sums, index, np.nan_to_num(values) * weights)
    np.add.at(totals, index, weights)
    drawn = _draws(len(names))
    means = _ratio(drawn @ sums.astype(np.float32), drawn @ totals.astype(np.float32)).mean(1)
    low, high = np.nanpercentile(means, (2.5, 97.5))
    return float(low), float(high)


@lru_cache(maxsize=2)
def _draws(n: int) -> np.ndarray:
    """How often each of n subjects is drawn in each resample, (RESAMPLES, n)."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float32)
