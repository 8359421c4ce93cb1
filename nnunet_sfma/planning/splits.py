"""``nnunet-sfma splits``: folds that keep subjects together, and the papers' own divisions.

The subjects, disease groups and lesion volumes that folds need stand in the ``provenance.json`` of a converted data
set, the papers' lists in ``dataset_conversion/releases/*.json``. nnU-Net reads ``splits_final.json``; test cases, which
it does not know, stand in ``split_record.json`` and, where they lie in imagesTr, as links in ``test_split/``.
"""

import json
import os
import shlex
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from dataset_conversion.folds import SEED, Fold, deal, five_folds, fold, on_fewer_folds
from dataset_conversion.paper_slices import CHOSEN_BY_LABEL
from dataset_conversion.raw_dataset import RawDataset, read_raw_dataset
from dataset_conversion.release import Release
from dataset_conversion.shipped_folds import were_shipped
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_texts
from nnunet_sfma.json_files import read_json
from nnunet_sfma.nnunet_folders import dataset_name, nnunet_folder
from nnunet_sfma.sentences import first_few
from nnunet_sfma.split_record import FOLDS, NAME, SPLITS_FILE, SplitRecord, read_split_record, split_checksum
from nnunet_sfma.subjects import HOW_TO_DECLARE
from nnunet_sfma.trained_models import left_behind

TEST_FOLDER = "test_split"
VALIDATED_ON_TRAINING = (
    "The published division has no validation set: nnU-Net validates on the training cases, as in its fold 'all', so "
    "validation scores say nothing here; the test cases stay untouched."
)
EACH_CASE_ALONE = (
    "The data set has no provenance.json, so each case counts as a subject of its own; if somebody was scanned twice, "
    f"{HOW_TO_DECLARE}, and make the splits again."
)
CANNOT_JUDGE = (
    "Whom the cases show is not known, so it cannot be judged whether somebody is both trained and validated on: "
    f"{HOW_TO_DECLARE}, and check again."
)


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


def make_splits(dataset: int | str, scheme: str, seed: int = SEED, overwrite: bool = False) -> list[str]:
    """Write ``splits_final.json`` and ``split_record.json`` into the data set's folder in nnUNet_preprocessed.

    Args:
        dataset: id or name of a raw data set.
        scheme: ``five-fold``: by subject, balanced by stratum and labelled volume; ``paper``: the division of the paper
            that uses the data set.
        seed: of what is drawn at random, 0 or more.
        overwrite: replace other splits.

    Returns:
        What was made, a line each, for people.

    Raises:
        UserError: if the data set is unknown, has too few subjects or not the paper's cases, or other splits exist.
    """
    if seed < 0:
        raise UserError(f"--seed {seed}: give 0 or a positive number.")
    raw = _raw(dataset)
    division = _five_fold(raw, seed) if scheme == "five-fold" else _paper(raw, seed)
    notes = check_division(division.folds, division.test, raw, scheme == "paper")
    if raw.slices == "lesion":
        notes.append(CHOSEN_BY_LABEL)
    division = replace(division, notes=(*division.notes, *notes))
    target = _preprocessed(raw)
    orphans = _orphans(target / SPLITS_FILE, division.folds)
    record, kept = _write(division, scheme, raw, target, overwrite)
    return [*_describe(division, record, raw, target), *kept, *orphans]


def check_splits(dataset: int | str) -> list[str]:
    """Check the ``splits_final.json`` that is there, whoever made it.

    Returns:
        What it holds, a line each, for people.

    Raises:
        UserError: if there is none, it is damaged, :func:`check_division` refuses it, or test images are gone.
    """
    raw = _raw(dataset)
    folder = _preprocessed(raw)
    path, notes = _which_file(folder / SPLITS_FILE, raw.folder / SPLITS_FILE)
    folds = _read_folds(path)
    record = read_split_record(folder)
    test = list(record.test) if record else []
    notes += check_division(folds, test, raw, record is not None and record.scheme == "paper")
    if not raw.subjects_known:
        notes.append(CANNOT_JUDGE)
    if record:
        _check_test_images(record)
    checksum = split_checksum(folds, test)
    if record and record.sha256 != checksum:
        notes.append(f"{SPLITS_FILE} was changed since nnunet-sfma splits wrote it ({record.scheme}).")
    used = {case for one in folds for side in ("train", "val") for case in one[side]} | set(test)
    unused = [member.identifier for member in raw.training if member.identifier not in used]
    if unused:
        notes.append(f"{len(unused)} training cases are in no fold ({first_few(unused, 3)}).")
    return [*_fold_lines(folds, raw), f"sha256 {checksum}", *(f"Note: {note}" for note in notes)]


def _which_file(final: Path, shipped: Path) -> tuple[Path, list[str]]:
    """The file that is used, or will be when nnU-Net plans, and what to tell of the other one."""
    if not shipped.is_file():
        return final, []
    if not final.is_file():
        return shipped, [f"nnU-Net has not planned yet and will copy these splits from {shipped}."]
    if _read_folds(shipped) != _read_folds(final):
        return final, [f"{shipped} holds other splits, and nnU-Net plans only where both agree: remove it."]
    return final, []


def check_division(
    folds: list[Fold], test: Iterable[str], raw: RawDataset, may_validate_on_training: bool = False
) -> list[str]:
    """Refuse a division that leaks or names what is not there.

    Args:
        folds: as in ``splits_final.json``.
        test: test cases.
        raw: the data set.
        may_validate_on_training: accept a fold that validates on exactly its training cases.

    Returns:
        Notes on what is allowed but should be known.

    Raises:
        UserError: if a side is empty, a case is not in the data set, a subject is on two sides, or a test case is in a
            fold.
    """
    known = {member.identifier: member.subject for member in raw.training}
    everybody = known | {member.identifier: member.subject for member in raw.official_test}
    test = list(test)
    _check_known(test, everybody, "The test list")
    tested = {everybody[case] for case in test}
    notes = []
    for number, one in enumerate(folds):
        for side in ("train", "val"):
            notes += _check_side(f"Fold {number} ({side})", one[side], known, test, tested, raw.release)
        if may_validate_on_training and sorted(one["train"]) == sorted(one["val"]):
            notes.append(VALIDATED_ON_TRAINING)
            continue
        shared = sorted({known[case] for case in one["train"]} & {known[case] for case in one["val"]})
        if shared:
            raise UserError(
                f"Fold {number} trains and validates on {shared[0]}; keep all cases of a subject on one side."
            )
    return list(dict.fromkeys(notes))


def _raw(dataset: int | str) -> RawDataset:
    return read_raw_dataset(nnunet_folder("nnUNet_raw").absolute() / dataset_name(dataset))


def _preprocessed(raw: RawDataset) -> Path:
    return nnunet_folder("nnUNet_preprocessed").absolute() / raw.folder.name


# Divisions


def _five_fold(raw: RawDataset, seed: int) -> Division:
    test = [member.identifier for member in raw.official_test]
    folds = five_folds(raw.training, seed)
    if not raw.subjects_known:
        return Division(folds, test, "five folds by case", seed, (EACH_CASE_ALONE, *on_fewer_folds(len(folds))))
    source = "five folds by subject, balanced by disease group (where known) and labelled volume"
    return Division(folds, test, source, seed, tuple(on_fewer_folds(len(folds))))


def _paper(raw: RawDataset, seed: int) -> Division:
    if raw.release is None:
        raise UserError(
            f"{raw.folder.name} was not converted from a release that a paper divides; use --scheme five-fold."
        )
    split = raw.release.paper_split
    make = {"random": _random, "subjects": _listed, "parts": _by_part}[split["kind"]]
    division = make(raw, split, seed)
    return replace(division, source=split["source"], notes=(split["note"], *division.notes))


def _random(raw: RawDataset, split: Mapping, seed: int) -> Division:
    """One division by the ratio, drawn by subject: a tenth each for validation and test."""
    train, val, test = split["ratio"]
    parts = deal(raw.training, train + val + test, seed)
    sides = parts[:test], parts[test : test + val], parts[test + val :]
    chosen_test, chosen_val, chosen_train = ([case for part in side for case in part] for side in sides)
    return Division([fold(chosen_train, chosen_val)], sorted(chosen_test), "", seed)


def _listed(raw: RawDataset, split: Mapping, seed: int) -> Division:
    by_subject = defaultdict(list)
    for member in raw.training:
        by_subject[member.subject].append(member.identifier)
    wanted = [*split["train"], *(split["val"] or []), *split["test"]]
    missing = [subject for subject in wanted if subject not in by_subject]
    if missing:
        raise UserError(
            f"{raw.folder.name} lacks {len(missing)} of the {len(wanted)} subjects in the paper's list "
            f"({first_few(missing, 3)}): convert the complete release, or use --scheme five-fold."
        )
    train, val, test = ([case for subject in split[side] or [] for case in by_subject[subject]] for side in _SIDES)
    return Division([fold(train, val or train)], sorted(test), "")


def _by_part(raw: RawDataset, split: Mapping, seed: int) -> Division:
    train, val, test = (_parts(raw, split[side]) for side in _SIDES)
    return Division([fold(train, val or train)], sorted(test), "")


_SIDES = ("train", "val", "test")


def _parts(raw: RawDataset, names: str | list[str] | None) -> list[str]:
    """The cases of whole parts of the release."""
    cases = []
    for name in [names] if isinstance(names, str) else names or []:
        part = [member.identifier for member in raw.training + raw.official_test if member.part == name]
        total = raw.release.totals[raw.layout][name]
        if len(part) != total:
            raise UserError(
                f"{raw.folder.name} has {len(part)} of the {total} cases of the part {name}, which the paper's "
                "scheme uses whole: convert the complete release, or use --scheme five-fold."
            )
        cases += part
    return cases


# Checks


def _check_side(
    name: str, cases: list[str], known: Mapping[str, str], test: list[str], tested: set[str], release: Release | None
) -> list[str]:
    """Check one side of one fold; returns notes."""
    if not cases:
        raise UserError(f"{name} is empty; every fold needs cases to train and to validate on.")
    _check_known(cases, known, name)
    both = sorted(set(cases) & set(test))
    if both:
        raise UserError(f"{name} holds the test case {both[0]}; take it out of the fold or of the test list.")
    shared = sorted({known[case] for case in cases} & tested)
    if not shared:
        return []
    if release is None or "shared_subjects" not in release.paper_split:
        raise UserError(f"{name} holds cases of {shared[0]}, of whom there are test cases; keep a subject on one side.")
    return [release.paper_split["shared_subjects"]]


def _check_known(cases: list[str], known: Mapping[str, str], name: str) -> None:
    unknown = [case for case in cases if case not in known]
    if unknown:
        raise UserError(f"{name} names {unknown[0]}, which is not in the data set; correct the list or convert again.")
    if len(set(cases)) < len(cases):
        raise UserError(f"{name} names a case twice; correct the list.")


def _check_test_images(record: SplitRecord) -> None:
    for folder in filter(None, (record.test_images, record.test_labels)):
        links = list(Path(folder).iterdir()) if Path(folder).is_dir() else []
        if not links or not all(link.exists() for link in links):
            raise UserError(f"The test cases in {folder} are gone or point nowhere: make the splits again.")


def _read_folds(path: Path) -> list[Fold]:
    missing = f"{path} does not exist: make splits with --scheme five-fold or paper."
    advice = "make the splits again with --scheme ... --overwrite"
    return [
        {"train": one["train"], "val": one["val"]} for one in read_json(path, FOLDS, advice=advice, missing=missing)
    ]


# Files


def _write(
    division: Division, scheme: str, raw: RawDataset, target: Path, overwrite: bool
) -> tuple[SplitRecord, list[str]]:
    """Returns the record, and what to tell of splits that were replaced."""
    final, shipped = target / SPLITS_FILE, raw.folder / SPLITS_FILE
    replaced = [path for path in (final, shipped) if path.is_file() and not _holds(path, division.folds)]
    refused = [path for path in replaced if not overwrite and not _was_shipped(path, shipped, raw)]
    if refused:
        raise UserError(
            f"{refused[0]} exists and differs; models that were trained with it would no longer match: say --overwrite "
            "to replace it and keep a copy."
        )
    official = {member.identifier for member in raw.official_test}
    place = raw.folder if set(division.test) <= official else target / TEST_FOLDER
    labelled = place != raw.folder or (raw.folder / "labelsTs").is_dir()
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
    texts = {target / NAME: record.to_json(), final: text}
    # nnU-Net's planner insists that both places agree.
    if shipped.is_file() and not _holds(shipped, division.folds):
        texts[shipped] = text
    hidden = target / f".{TEST_FOLDER}.unfinished"
    kept = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(hidden, ignore_errors=True)
        if place != raw.folder:
            _link_test_cases(division.test, raw, hidden)
        kept = [_keep_copy(path) for path in replaced]
        replace_texts(texts)
        shutil.rmtree(target / TEST_FOLDER, ignore_errors=True)
        if hidden.is_dir():
            hidden.rename(target / TEST_FOLDER)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}): make room or choose another folder."
        ) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return record, [f"The splits that were replaced are kept as {path}" for path in kept]


def _keep_copy(path: Path) -> Path:
    """Copy a file beside itself, to a name that nothing has: ``.bak``, or with a number."""
    names = (path.with_name(f"{path.name}.bak{number or ''}") for number in count())
    copy = next(name for name in names if not os.path.lexists(name))
    shutil.copy2(path, copy)
    return copy


def _holds(path: Path, folds: list[Fold]) -> bool:
    try:
        return _read_folds(path) == folds
    except UserError:  # damaged
        return False


def _was_shipped(path: Path, shipped: Path, raw: RawDataset) -> bool:
    """Whether a file holds the splits that the conversion shipped, and nothing was trained with them."""
    there = _read_folds(path)
    trained = nnunet_folder("nnUNet_results") / raw.folder.name
    return shipped.is_file() and not trained.exists() and were_shipped(there, raw.folder)


def _orphans(final: Path, folds: list[Fold]) -> list[str]:
    """What to tell of models that were trained with other splits than these."""
    try:
        if not final.is_file() or _read_folds(final) == folds:
            return []
    except UserError:  # damaged: whatever it was, it is another one
        pass
    remedy = "they are neither continued nor evaluated with the new one, so move them away and train again"
    return left_behind(final.parent.name, "the split", remedy)


def _link_test_cases(test: list[str], raw: RawDataset, folder: Path) -> None:
    """Links, because nnUNetv2_predict takes a folder, and these cases lie among the training cases."""
    chosen = set(test)
    for kind, suffix in (("images", len("_0000")), ("labels", 0)):
        (folder / f"{kind}Ts").mkdir(parents=True)
        for path in sorted((raw.folder / f"{kind}Tr").iterdir()):
            stem = path.name.removesuffix(raw.file_ending)
            if stem[: len(stem) - suffix] in chosen:
                (folder / f"{kind}Ts" / path.name).symlink_to(path)


# For people


def _describe(division: Division, record: SplitRecord, raw: RawDataset, target: Path) -> list[str]:
    lines = [f"Wrote {target / SPLITS_FILE}", f"Source: {division.source}", *_fold_lines(division.folds, raw)]
    if division.test:
        lines += [f"test: {len(division.test)} cases, in no fold; predict and evaluate them with"]
        lines += [f"  {command}" for command in _commands(record, raw, len(division.folds))]
    return [*lines, f"sha256 {division.sha256}", *(f"Note: {note}" for note in division.notes)]


def _commands(record: SplitRecord, raw: RawDataset, n_folds: int) -> list[str]:
    numbers = " ".join(map(str, range(n_folds)))
    model = f"-d {raw.folder.name[7:10]} -c 2d -f {numbers} -tr TRAINER -p PLANS"
    commands = [f"nnUNetv2_predict {model} -i {shlex.quote(record.test_images)} -o OUT"]
    if record.test_labels:
        files = "-djfile OUT/dataset.json -pfile OUT/plans.json"
        commands.append(f"nnUNetv2_evaluate_folder {shlex.quote(record.test_labels)} OUT {files}")
    return commands


def _fold_lines(folds: list[Fold], raw: RawDataset) -> list[str]:
    subjects = {member.identifier: member.subject for member in raw.training}

    def size(cases: list[str]) -> str:
        if not raw.subjects_known:
            return f"{len(cases)} cases"
        return f"{len(cases)} cases (subjects: {len({subjects[case] for case in cases})})"

    return [f"fold {i}: train {size(one['train'])}, validate {size(one['val'])}" for i, one in enumerate(folds)]
