"""Are two models different? Paired tests and intervals over cases, for evaluations that can be compared at all."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import wilcoxon

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.recipes import differing_recipe
from nnunet_sfma.evaluation.statistics import MEAN, bootstrap_interval
from nnunet_sfma.sentences import first_few

FEWEST_PAIRS = 6
"""With fewer pairs that differ, no difference can reach p < 0.05."""


@dataclass(frozen=True)
class PairedTest:
    """A two-sided Wilcoxon signed-rank test of two evaluations.

    Attributes:
        a, b: names of the evaluations; differences are a - b.
        metric: its key.
        class_name: a class, or ``mean`` for the mean over the classes of each case.
        unit: of the pairs, "subjects", or "cases" where whom the cases show is not known.
        n: pairs, that is subjects or cases of whom both evaluations have a value.
        median_difference, mean_difference, p: None without pairs.
        low, high: 95 % bootstrap interval of the mean difference; None with fewer than two pairs.
        p_holm: after Holm's correction over all pairs of evaluations and classes of this metric.
        note: what limits the test, a sentence, or None.
    """

    a: str
    b: str
    metric: str
    class_name: str
    unit: str
    n: int
    median_difference: float | None
    mean_difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    note: str | None


def labels(evaluations: Sequence[dict]) -> list[str]:
    """The evaluations' names, with their folders where names alone do not tell them apart."""
    names = [evaluation["name"] for evaluation in evaluations]
    return [
        name if names.count(name) == 1 else f"{name} ({Path(evaluation['path']).parent})"
        for name, evaluation in zip(names, evaluations, strict=True)
    ]


def refuse_incomparable(evaluations: Sequence[dict]) -> None:
    """Refuse evaluations whose numbers may not stand side by side; a single one only has to be complete.

    Raises:
        UserError: if one is not complete, two are one and the same, two differ in data set, classes, cases, folds,
            split or conventions, or two are ablations of one another and differ in recipe; the sentence says in which.
    """
    names = labels(evaluations)
    for name, evaluation in zip(names, evaluations, strict=True):
        if evaluation["missing"] or evaluation["summary"] is None:
            raise UserError(f"{name} is not complete: {' '.join(evaluation['missing']) or 'evaluate it again.'}")
    for (name_a, a), (name_b, b) in combinations(zip(names, evaluations, strict=True), 2):
        if _predictions(a) == _predictions(b):
            raise UserError(f"{name_a} and {name_b} are evaluations of the very same predictions: name two models.")
        if differences := _differences(a, b):
            raise UserError(
                f"{name_a} and {name_b} cannot be compared, because they differ in {' and in '.join(differences)}; "
                "evaluate both on the same cases, folds and conventions."
            )
        if recipe := differing_recipe(a["model"], b["model"]):
            raise UserError(
                f"{name_a} and {name_b} are rows of one ablation that were not trained alike: they differ in "
                f"{first_few(recipe)}; train both with one recipe (nnunet-sfma plan --preset PRESET --ablation ROW)."
            )


def paired_tests(evaluations: Sequence[dict], metric: str) -> list[PairedTest]:
    """Test every pair of evaluations in every class, and in the mean over classes where there are several.

    The values of one subject (two frames, two scans, slices) are averaged first: they are not independent, and a test
    that counted each of them would find differences that are not there. Unless all subjects are known, cases are
    tested. Cases without a value in either evaluation are left out of the pair, and of the mean over classes those in
    which other classes have one.

    Args:
        evaluations: as from ``read_evaluation``.
        metric: a key of their ``metrics``.

    Raises:
        UserError: as :func:`refuse_incomparable` does.
    """
    refuse_incomparable(evaluations)
    tests = [
        _test(*names, metric, class_name, unit_of_pairs(a, b), _paired_differences(a, b, metric, class_name))
        for (names, a, b) in _pairs(evaluations)
        for class_name in _tested_classes(a, metric)
    ]
    adjusted = iter(holm([test.p for test in tests if test.p is not None]))
    return [test if test.p is None else replace(test, p_holm=next(adjusted)) for test in tests]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    factors = len(order) - np.arange(len(order))
    stepped = np.minimum(np.maximum.accumulate(factors * np.asarray(p_values, float)[order]), 1)
    adjusted = np.empty(len(order))
    adjusted[order] = stepped
    return adjusted.tolist()


# What may not differ


def _predictions(evaluation: dict) -> list[str]:
    return [case["prediction"] for case in evaluation["cases"]]


def _differences(a: dict, b: dict) -> list[str]:
    """A clause for each thing that differs."""
    if a["dataset"]["name"] != b["dataset"]["name"]:
        return [f"the data set ({a['dataset']['name']} and {b['dataset']['name']})"]
    clauses = (_classes(a, b), _cases(a, b) or _folds(a, b) or _references(a, b), _split(a, b), _conventions(a, b))
    return [clause for clause in clauses if clause]


def _classes(a: dict, b: dict) -> str | None:
    labels_a, labels_b = (evaluation["dataset"]["class_labels"] for evaluation in (a, b))
    if labels_a == labels_b:
        return None
    changed = [name for name in {**labels_a, **labels_b} if labels_a.get(name) != labels_b.get(name)]
    return f"the classes ({first_few(changed)})"


def _cases(a: dict, b: dict) -> str | None:
    cases_a, cases_b = ({case["case"] for case in evaluation["cases"]} for evaluation in (a, b))
    odd = sorted(cases_a ^ cases_b)
    if not odd:
        return None
    subset = ", because only some folds were evaluated" if a["subset"] or b["subset"] else ""
    return f"{len(odd)} cases ({first_few(odd, 3)}), which only one of them has{subset}"


def _folds(a: dict, b: dict) -> str | None:
    folds = {case["case"]: case["fold"] for case in b["cases"]}
    moved = [case["case"] for case in a["cases"] if case["fold"] != folds[case["case"]]]
    return f"the folds of {len(moved)} cases ({first_few(moved, 3)})" if moved else None


def _references(a: dict, b: dict) -> str | None:
    known = {case["case"]: case.get("reference_sha256") for case in b["cases"]}
    other = [case["case"] for case in a["cases"] if case.get("reference_sha256") != known[case["case"]]]
    return f"the labels of {len(other)} cases ({first_few(other, 3)})" if other else None


def _split(a: dict, b: dict) -> str | None:
    """Checksums count only where both are known: a plain folder of predictions has none."""
    checksums = [evaluation["split"].get("sha256") for evaluation in (a, b)]
    if None in checksums or checksums[0] == checksums[1]:
        return None
    return f"the split (sha256 {checksums[0][:12]} and {checksums[1][:12]})"


def _conventions(a: dict, b: dict) -> str | None:
    chosen_a, chosen_b = a["conventions"], b["conventions"]
    changed = [
        f"{key}: {chosen_a.get(key)} and {chosen_b.get(key)}"
        for key in {**chosen_a, **chosen_b}
        if chosen_a.get(key) != chosen_b.get(key)
    ]
    return f"the conventions ({'; '.join(changed)})" if changed else None


# Pairs


def _pairs(evaluations: Sequence[dict]) -> Iterator[tuple[tuple[str, str], dict, dict]]:
    named = zip(labels(evaluations), evaluations, strict=True)
    return (((name_a, name_b), a, b) for (name_a, a), (name_b, b) in combinations(named, 2))


def _tested_classes(evaluation: dict, metric: str) -> list[str]:
    """The classes that have the metric, and their mean; of a single class the mean alone, which is the same."""
    classes = evaluation["dataset"]["classes"]
    several = [name for name in classes if len(classes) > 1]
    return [name for name in [*several, MEAN] if any(metric in _scores(case, name) for case in evaluation["cases"])]


def _scores(case: dict, class_name: str) -> dict:
    return case["mean"] if class_name == MEAN else case["classes"][class_name]


def _paired_differences(a: dict, b: dict, metric: str, class_name: str) -> np.ndarray:
    """a - b by subject, or by case, where both have a value."""
    subjects = _subjects(a, b)
    others = {case["case"]: case for case in b["cases"]}
    paired = [
        (subjects[case["case"]], *(_scores(each, class_name)[metric] for each in (case, other)))
        for case in a["cases"]
        if _is_pair(case, other := others[case["case"]], metric, class_name)
    ]
    by_subject = _by_subject((value - other for _, value, other in paired), (subject for subject, *_ in paired))
    return np.array([np.mean(own) for own in by_subject.values()])


def _is_pair(case: dict, other: dict, metric: str, class_name: str) -> bool:
    """Whether both have a value, and of a mean over classes those of the same classes: a missed one has no distance."""
    have_values = all(_scores(each, class_name).get(metric) is not None for each in (case, other))
    return have_values and (class_name != MEAN or _classes_of(case, metric) == _classes_of(other, metric))


def _classes_of(case: dict, metric: str) -> set[str]:
    """The classes that have a value in a case."""
    of_classes = "iou" if metric == "miou" else metric
    return {name for name, scores in case["classes"].items() if scores.get(of_classes) is not None}


def unit_of_pairs(*evaluations: dict) -> str:
    """Return "subjects" if an evaluation tells whom all of its cases show, else "cases"."""
    return "subjects" if any(each["split"].get("subjects_known") for each in evaluations) else "cases"


def _subjects(*evaluations: dict) -> dict[str, str]:
    """Whom each case shows; the cases themselves if that is not known of all."""
    told = max(evaluations, key=lambda evaluation: bool(evaluation["split"].get("subjects_known")))
    key = "subject" if unit_of_pairs(told) == "subjects" else "case"
    return {case["case"]: case[key] or case["case"] for case in told["cases"]}


def _by_subject(values: Iterable[float | None], subjects: Iterable[Hashable]) -> dict[Hashable, list[float]]:
    by_subject = defaultdict(list)
    for value, subject in zip(values, subjects, strict=True):
        if value is not None and not np.isnan(value):
            by_subject[subject].append(value)
    return by_subject


def _test(a: str, b: str, metric: str, class_name: str, unit: str, differences: np.ndarray) -> PairedTest:
    # Wilcoxon's test drops pairs without a difference
    differing = differences[differences != 0]
    p = float(wilcoxon(differing).pvalue) if len(differing) else 1.0
    n = len(differences)
    low, high = bootstrap_interval(differences[:, None], np.ones((n, 1)), range(n))
    return PairedTest(
        a=a,
        b=b,
        metric=metric,
        class_name=class_name,
        unit=unit,
        n=n,
        median_difference=float(np.median(differences)) if n else None,
        mean_difference=float(np.mean(differences)) if n else None,
        low=low,
        high=high,
        p=p if n else None,
        p_holm=None,
        note=_note(n, len(differing)),
    )


def _note(n: int, n_differing: int) -> str | None:
    if not n:
        return "No case has a value in both."
    if not n_differing:
        return "No pair differs."
    if n_differing < FEWEST_PAIRS:
        return f"With {n_differing} pairs that differ p cannot fall below {2 ** (1 - n_differing):.3g}."
    return None
