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
    """Five folds by subject, balanced by stratum and labelled volume.

    Raises:
        UserError: if there are fewer than five subjects.
    """
    everything = {member.identifier for member in members}
    return [fold(everything - set(part), part) for part in deal(members, N_FOLDS, seed)]


def deal(members: list[Member], n_parts: int, seed: int) -> list[list[str]]:
    """Subjects dealt to parts like cards: sorted by stratum and labelled volume, each hand of ``n_parts`` at random.

    Returns:
        The identifiers of each part.

    Raises:
        UserError: if there are fewer subjects than parts.
    """
    by_subject = defaultdict(list)
    for member in members:
        by_subject[member.subject].append(member)
    if len(by_subject) < n_parts:
        raise UserError(f"{len(by_subject)} subjects are too few for {n_parts} parts: convert more of the release.")

    def rank(subject: str) -> tuple[str, float, str]:
        cases = by_subject[subject]
        return min(case.stratum for case in cases), max(case.foreground for case in cases), subject

    generator = np.random.default_rng(seed)
    parts: list[list[str]] = [[] for _ in range(n_parts)]
    ranked = sorted(by_subject, key=rank)
    for start in range(0, len(ranked), n_parts):
        hand = ranked[start : start + n_parts]
        for subject, part in zip(hand, generator.permutation(n_parts), strict=False):
            parts[part] += [member.identifier for member in by_subject[subject]]
    return parts


def fold(train: Iterable[str], val: Iterable[str]) -> Fold:
    """A fold as nnU-Net's ``splits_final.json`` has it."""
    return {"train": sorted(train), "val": sorted(val)}
