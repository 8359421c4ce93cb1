"""Folds that keep subjects together and balance what is known of them."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from dataset_conversion.raw_dataset import Member
from nnunet_sfma.errors import UserError

N_FOLDS = 5
SEED = 12345
"""nnU-Net's own."""

Fold = dict[str, list[str]]


def five_folds(members: list[Member], seed: int = SEED) -> list[Fold]:
    """Return five folds by subject, balanced by number of cases, stratum and labelled volume.

    Fewer than five subjects get as many folds, of which each validates on one of them.

    Raises:
        UserError: if there is one subject only.
    """
    everything = {member.identifier for member in members}
    n_folds = max(2, min(N_FOLDS, number_of_subjects(members)))
    return [fold(everything - set(part), part) for part in deal(members, n_folds, seed)]


def unbalanced_folds(members: list[Member]) -> list[Fold]:
    """Return the folds of versions that did not balance the number of cases; none for fewer than five subjects.

    They are still on disks, where they have to be recognised.
    """
    by_subject = _by_subject(members)
    ranked = sorted(by_subject, key=lambda subject: _rank(by_subject[subject])[1:])
    if len(ranked) < N_FOLDS:
        return []
    generator = np.random.default_rng(SEED)
    parts: list[list[str]] = [[] for _ in range(N_FOLDS)]
    for start in range(0, len(ranked), N_FOLDS):
        order = generator.permutation(N_FOLDS)
        for subject, index in zip(ranked[start : start + N_FOLDS], order, strict=False):
            parts[index] += [member.identifier for member in by_subject[subject]]
    return [fold({member.identifier for member in members} - set(part), part) for part in parts]


def number_of_subjects(members: list[Member]) -> int:
    """Return how many subjects the cases show."""
    return len({member.subject for member in members})


def on_fewer_folds(n_folds: int) -> list[str]:
    """Return a sentence for the user if there are fewer than five folds."""
    if n_folds == N_FOLDS:
        return []
    return [f"{n_folds} subjects are too few for five folds: there are {n_folds}; train folds 0 to {n_folds - 1}."]


def deal(members: list[Member], n_parts: int, seed: int) -> list[list[str]]:
    """Deal subjects to parts, those with most cases first, each to the part that has the fewest cases so far.

    Subjects with equally many cases are sorted by stratum and labelled volume; among parts with equally many, each hand
    of ``n_parts`` subjects goes round at random: where all subjects have equally many, it holds one for each part.

    Returns:
        The identifiers of each part.

    Raises:
        UserError: if there are fewer subjects than parts.
    """
    by_subject = _by_subject(members)
    if len(by_subject) < n_parts:
        raise UserError(
            f"{len(by_subject)} subjects are too few for {n_parts} parts: convert more of the "
            "release, or keep the folds by subject that convert ships."
        )
    generator = np.random.default_rng(seed)
    parts: list[list[str]] = [[] for _ in range(n_parts)]
    ranked = sorted(by_subject, key=lambda subject: _rank(by_subject[subject]))
    for start in range(0, len(ranked), n_parts):
        shuffled = [parts[index] for index in generator.permutation(n_parts)]
        for subject in ranked[start : start + n_parts]:
            min(shuffled, key=len).extend(member.identifier for member in by_subject[subject])
    return parts


def _by_subject(members: list[Member]) -> dict[str, list[Member]]:
    by_subject = defaultdict(list)
    for member in members:
        by_subject[member.subject].append(member)
    return by_subject


def _rank(cases: list[Member]) -> tuple[int, str, float, str]:
    """Of a subject: by number of cases, most first, then by stratum, labelled volume and name."""
    stratum, foreground = min(case.stratum for case in cases), max(case.foreground for case in cases)
    return -len(cases), stratum, foreground, cases[0].subject


def fold(train: Iterable[str], val: Iterable[str]) -> Fold:
    """A fold as nnU-Net's ``splits_final.json`` has it."""
    return {"train": sorted(train), "val": sorted(val)}
