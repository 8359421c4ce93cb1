"""``nnunet-sfma splits``: folds that keep subjects together, and the papers' own divisions.

The subjects, disease groups and lesion volumes that folds need stand in the ``provenance.json`` of a converted data
set, the papers' lists in ``dataset_conversion/releases/*.json``. nnU-Net reads ``splits_final.json``; test cases, which
it does not know, stand in ``split_record.json`` and, where they lie in imagesTr, as links in ``test_split/``.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dataset_conversion.release import Release, load_release
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.nnunet_folders import dataset_name, nnunet_folder
from nnunet_sfma.split_record import NAME, SplitRecord, read_split_record, split_checksum

SCHEMES = ("five-fold", "paper")
N_FOLDS = 5
SPLITS_FILE = "splits_final.json"
TEST_FOLDER = "test_split"
VALIDATED_ON_TRAINING = (
    "The published division has no validation set: nnU-Net validates on the training cases, as in its fold 'all', so "
    "validation scores say nothing here; the test cases stay untouched."
)
EACH_CASE_ALONE = (
    "The data set has no provenance.json, so each case counts as a subject of its own; if somebody was scanned twice, "
    "write the folds by hand and check them with --check."
)

Fold = dict[str, list[str]]


@dataclass(frozen=True)
class Member:
    """One nnU-Net case: its subject, and what folds balance."""

    identifier: str
    subject: str
    part: str
    stratum: str
    foreground: float


@dataclass(frozen=True)
class Division:
    """Folds and test cases by identifier, and where they come from."""

    folds: list[Fold]
    test: list[str]
    source: str
    seed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        return split_checksum(self.folds, self.test)


@dataclass(frozen=True)
class Dataset:
    """What a raw data set tells of its cases; without provenance each case counts as a subject of its own."""

    folder: Path
    file_ending: str
    training: list[Member]
    official_test: list[Member]
    release: Release | None = None
    layout: str | None = None
    subjects_known: bool = True


def make_splits(dataset: int | str, scheme: str, seed: int = 12345, overwrite: bool = False) -> list[str]:
    """Write ``splits_final.json`` and ``split_record.json`` into the data set's folder in nnUNet_preprocessed.

    Args:
        dataset: id or name of a raw data set.
        scheme: ``five-fold``: by subject, balanced by stratum and labelled volume; ``paper``: the division of the paper
            that uses the data set.
        seed: of what is drawn at random.
        overwrite: replace other splits.

    Returns:
        What was made, a line each, for people.

    Raises:
        UserError: if the data set is unknown, has too few subjects or not the paper's cases, or other splits exist.
    """
    members = read_dataset(dataset)
    division = _five_fold(members, seed) if scheme == "five-fold" else _paper(members, seed)
    notes = check_division(division.folds, division.test, members)
    division = replace(division, notes=(*division.notes, *notes))
    target = nnunet_folder("nnUNet_preprocessed") / members.folder.name
    record = _write(division, scheme, members, target, overwrite)
    return _describe(division, record, members, target)


def check_splits(dataset: int | str) -> list[str]:
    """Check the ``splits_final.json`` that is there, whoever made it.

    Returns:
        What it holds, a line each, for people.

    Raises:
        UserError: if there is none, it is damaged, or :func:`check_division` refuses it.
    """
    members = read_dataset(dataset)
    folder = nnunet_folder("nnUNet_preprocessed") / members.folder.name
    folds = _read_folds(folder / SPLITS_FILE)
    record = read_split_record(folder)
    test = list(record.test) if record else []
    notes = check_division(folds, test, members)
    checksum = split_checksum(folds, test)
    if record and record.sha256 != checksum:
        notes.append(f"{SPLITS_FILE} was changed since nnunet-sfma splits wrote it ({record.scheme}).")
    used = {case for fold in folds for side in ("train", "val") for case in fold[side]} | set(test)
    unused = [member.identifier for member in members.training if member.identifier not in used]
    if unused:
        notes.append(f"{len(unused)} training cases are in no fold ({', '.join(unused[:3])}, ...).")
    return [*_fold_lines(folds, members), f"sha256 {checksum}", *(f"Note: {note}" for note in notes)]


def read_dataset(dataset: int | str) -> Dataset:
    """The cases of a raw data set with their subjects.

    Raises:
        UserError: if there is no such raw data set or a file of it is damaged.
    """
    folder = nnunet_folder("nnUNet_raw") / dataset_name(dataset)
    try:
        file_ending = json.loads((folder / "dataset.json").read_text())["file_ending"]
        provenance = folder / "provenance.json"
        entries = json.loads(provenance.read_text()) if provenance.is_file() else None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} is no complete raw data set ({error}): convert it again.") from None
    if entries is None:
        return Dataset(folder, file_ending, _cases_alone(folder, file_ending), [], subjects_known=False)
    release = entries["options"].get("release")
    members = {split: _members(entries["cases"], split) for split in ("Tr", "Ts")}
    return Dataset(
        folder,
        file_ending,
        members["Tr"],
        members["Ts"],
        load_release(release) if release else None,
        entries["options"].get("layout"),
    )


def check_division(folds: list[Fold], test: Iterable[str], dataset: Dataset) -> list[str]:
    """Refuse a division that leaks or names what is not there.

    Returns:
        Notes on what is allowed but should be known.

    Raises:
        UserError: if a case is not in the data set, a subject is on two sides, or a test case is in a fold.
    """
    known = {member.identifier: member.subject for member in dataset.training}
    official = {member.identifier: member.subject for member in dataset.official_test}
    test = list(test)
    _check_known(test, known | official, "The test list")
    tested = {(known | official)[case] for case in test}
    notes = []
    for number, fold in enumerate(folds):
        for side in ("train", "val"):
            name = f"Fold {number} ({side})"
            _check_known(fold[side], known, name)
            both = sorted(set(fold[side]) & set(test))
            if both:
                raise UserError(f"{name} holds the test case {both[0]}; take it out of the fold or of the test list.")
            shared = sorted({known[case] for case in fold[side]} & tested)
            if shared and not _shares_subjects(dataset.release):
                raise UserError(
                    f"{name} holds cases of {shared[0]}, of whom there are test cases; keep a subject on one side."
                )
            if shared:
                notes.append(dataset.release.paper_split["shared_subjects"])
        if sorted(fold["train"]) == sorted(fold["val"]):
            notes.append(VALIDATED_ON_TRAINING)
            continue
        shared = sorted({known[case] for case in fold["train"]} & {known[case] for case in fold["val"]})
        if shared:
            raise UserError(
                f"Fold {number} trains and validates on {shared[0]}; keep all cases of a subject on one side."
            )
    return list(dict.fromkeys(notes))


# What the data set tells


def _members(cases: Mapping[str, dict], split: str) -> list[Member]:
    """A member for each nnU-Net case; slices share all properties of their volume."""
    return [
        Member(identifier, entry["subject"], entry["part"], entry["stratum"] or "", entry["foreground"] or 0.0)
        for case, entry in cases.items()
        if entry["split"] == split
        for identifier in entry.get("slices", [case])
    ]


def _cases_alone(folder: Path, file_ending: str) -> list[Member]:
    labels = sorted(path.name.removesuffix(file_ending) for path in (folder / "labelsTr").glob(f"*{file_ending}"))
    if not labels:
        raise UserError(f"{folder} has no labels in labelsTr: convert the data set first.")
    return [Member(identifier, identifier, "Training", "", 0.0) for identifier in labels]


# Divisions


def _five_fold(dataset: Dataset, seed: int) -> Division:
    parts = _deal(dataset.training, N_FOLDS, seed)
    everything = [member.identifier for member in dataset.training]
    folds = [_fold(set(everything) - set(part), part) for part in parts]
    notes = () if dataset.subjects_known else (EACH_CASE_ALONE,)
    test = [member.identifier for member in dataset.official_test]
    source = "five folds by subject, balanced by disease group (where known) and labelled volume"
    return Division(folds, test, source, seed, notes)


def _paper(dataset: Dataset, seed: int) -> Division:
    if dataset.release is None:
        raise UserError(
            f"{dataset.folder.name} was not converted from a release that a paper divides; use --scheme five-fold."
        )
    split = dataset.release.paper_split
    make = {"random": _random, "subjects": _listed, "parts": _by_part}[split["kind"]]
    division = make(dataset, split, seed)
    return replace(division, source=split["source"], notes=(split["note"], *division.notes))


def _random(dataset: Dataset, split: Mapping, seed: int) -> Division:
    """One division by the ratio, drawn by subject: a tenth each for validation and test."""
    train, val, test = split["ratio"]
    parts = _deal(dataset.training, train + val + test, seed)
    sides = parts[:test], parts[test : test + val], parts[test + val :]
    chosen_test, chosen_val, chosen_train = ([case for part in side for case in part] for side in sides)
    return Division([_fold(chosen_train, chosen_val)], sorted(chosen_test), "", seed)


def _listed(dataset: Dataset, split: Mapping, seed: int) -> Division:
    by_subject = defaultdict(list)
    for member in dataset.training:
        by_subject[member.subject].append(member.identifier)
    wanted = [*split["train"], *(split["val"] or []), *split["test"]]
    missing = [subject for subject in wanted if subject not in by_subject]
    if missing:
        raise UserError(
            f"{dataset.folder.name} lacks {len(missing)} of the {len(wanted)} subjects in the paper's list "
            f"({', '.join(missing[:3])}, ...): convert the complete release, or use --scheme five-fold."
        )
    train, val, test = ([case for subject in split[side] or [] for case in by_subject[subject]] for side in _SIDES)
    return Division([_fold(train, val or train)], sorted(test), "")


def _by_part(dataset: Dataset, split: Mapping, seed: int) -> Division:
    train, val, test = (_parts(dataset, split[side]) for side in _SIDES)
    return Division([_fold(train, val or train)], sorted(test), "")


_SIDES = ("train", "val", "test")


def _parts(dataset: Dataset, names: str | list[str] | None) -> list[str]:
    """The cases of whole parts of the release."""
    cases = []
    for name in [names] if isinstance(names, str) else names or []:
        part = [member.identifier for member in dataset.training + dataset.official_test if member.part == name]
        total = dataset.release.totals[dataset.layout][name]
        if len(part) != total:
            raise UserError(
                f"{dataset.folder.name} has {len(part)} of the {total} cases of the part {name}, which the paper's "
                "scheme uses whole: convert the complete release, or use --scheme five-fold."
            )
        cases += part
    return cases


def _deal(members: list[Member], n_parts: int, seed: int) -> list[list[str]]:
    """Subjects dealt to parts like cards: sorted by stratum and labelled volume, each hand of ``n_parts`` at random."""
    by_subject = defaultdict(list)
    for member in members:
        by_subject[member.subject].append(member)
    if len(by_subject) < n_parts:
        raise UserError(f"{len(by_subject)} subjects are too few for {n_parts} parts: convert more of the release.")
    generator = np.random.default_rng(seed)

    def rank(subject: str) -> tuple[str, float, str]:
        cases = by_subject[subject]
        return min(case.stratum for case in cases), sum(case.foreground for case in cases), subject

    parts: list[list[str]] = [[] for _ in range(n_parts)]
    ranked = sorted(by_subject, key=rank)
    for start in range(0, len(ranked), n_parts):
        hand = ranked[start : start + n_parts]
        for subject, part in zip(hand, generator.permutation(n_parts), strict=False):
            parts[part] += [member.identifier for member in by_subject[subject]]
    return parts


def _fold(train: Iterable[str], val: Iterable[str]) -> Fold:
    return {"train": sorted(train), "val": sorted(val)}


# Checks


def _check_known(cases: list[str], known: Mapping[str, str], name: str) -> None:
    unknown = [case for case in cases if case not in known]
    if unknown:
        raise UserError(f"{name} names {unknown[0]}, which is not in the data set; correct the list or convert again.")
    if len(set(cases)) < len(cases):
        raise UserError(f"{name} names a case twice; correct the list.")


def _shares_subjects(release: Release | None) -> bool:
    return release is not None and "shared_subjects" in release.paper_split


def _read_folds(path: Path) -> list[Fold]:
    try:
        folds = json.loads(path.read_text())
        return [{"train": list(fold["train"]), "val": list(fold["val"])} for fold in folds]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: make splits with --scheme five-fold or paper.") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: make the splits again with --overwrite.") from None


# Files


def _write(division: Division, scheme: str, dataset: Dataset, target: Path, overwrite: bool) -> SplitRecord:
    in_raw = not division.test or set(division.test) <= {member.identifier for member in dataset.official_test}
    place = dataset.folder if in_raw else target / TEST_FOLDER
    labelled = in_raw is False or (dataset.folder / "labelsTs").is_dir()
    record = SplitRecord(
        scheme,
        division.seed,
        division.source,
        division.notes,
        division.sha256,
        tuple(division.test),
        str(place / "imagesTs") if division.test else None,
        str(place / "labelsTs") if division.test and labelled else None,
    )
    text = json.dumps(division.folds, indent=2) + "\n"
    final = target / SPLITS_FILE
    if final.is_file() and _read_folds(final) != division.folds and not overwrite:
        raise UserError(
            f"{final} exists and differs; models that were trained with it would no longer match: say --overwrite to "
            "replace it."
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target / TEST_FOLDER, ignore_errors=True)
        if not in_raw:
            _link_test_cases(division.test, dataset, target / TEST_FOLDER)
        replace_text(target / NAME, record.to_json())
        replace_text(final, text)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}): make room or choose another folder."
        ) from error
    return record


def _link_test_cases(test: list[str], dataset: Dataset, folder: Path) -> None:
    """Links, because nnUNetv2_predict takes a folder, and these cases lie among the training cases."""
    hidden = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(hidden, ignore_errors=True)
    chosen = set(test)
    for kind, suffix in (("images", 5), ("labels", 0)):
        (hidden / f"{kind}Ts").mkdir(parents=True)
        for path in sorted((dataset.folder / f"{kind}Tr").iterdir()):
            stem = path.name.removesuffix(dataset.file_ending)
            if stem[: len(stem) - suffix] in chosen:
                (hidden / f"{kind}Ts" / path.name).symlink_to(path.absolute())
    hidden.rename(folder)


# For people


def _describe(division: Division, record: SplitRecord, dataset: Dataset, target: Path) -> list[str]:
    lines = [f"Wrote {target / SPLITS_FILE}", f"Source: {division.source}"]
    lines += _fold_lines(division.folds, dataset)
    if division.test:
        number = dataset.folder.name[7:10]
        folds = " ".join(str(index) for index in range(len(division.folds)))
        lines.append(f"test: {len(division.test)} cases, in no fold; predict them with")
        lines.append(
            f"  nnUNetv2_predict -d {number} -c 2d -f {folds} -tr TRAINER -p PLANS -i {record.test_images} -o OUT"
        )
        if record.test_labels:
            lines.append(
                f"  nnUNetv2_evaluate_folder {record.test_labels} OUT -djfile OUT/dataset.json -pfile OUT/plans.json"
            )
    return [*lines, f"sha256 {division.sha256}", *(f"Note: {note}" for note in division.notes)]


def _fold_lines(folds: list[Fold], dataset: Dataset) -> list[str]:
    subjects = {member.identifier: member.subject for member in dataset.training}
    count = {
        side: [f"{len(fold[side])} cases of {len({subjects[case] for case in fold[side]})} subjects" for fold in folds]
        for side in ("train", "val")
    }
    return [f"fold {i}: {count['train'][i]} train, {count['val'][i]} validate" for i in range(len(folds))]
