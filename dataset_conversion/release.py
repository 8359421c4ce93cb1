"""A published data set: its facts, which stand in ``releases/*.json``, and what was found of it on the disk."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from dataset_conversion.common import Case, Content, Piece, write_dataset
from nnunet_sfma.errors import UserError


@dataclass(frozen=True)
class Release:
    """The facts of one published data set.

    Attributes:
        name: as in ``nnunet-sfma convert NAME``.
        title: its full name.
        networks: which of our papers uses it.
        size: cases and dimensions, for people.
        licence: of the data, and how sure that is.
        access: where to get it or to apply for it.
        citation: what to cite.
        expected: what lies where, for the sentence that says that nothing was found.
        typical_file: regular expression of a file's or folder's name that only this data set has.
        totals: the official number of cases by layout and part.
        label_maps: names and values of labels by the map's name.
        paper_split: the split of the paper that uses it; see ``nnunet_sfma.planning.splits``.
        sources: where these facts are from.
    """

    name: str
    title: str
    networks: tuple[str, ...]
    size: str
    licence: str
    access: str
    citation: str
    expected: str
    typical_file: str
    totals: Mapping[str, Mapping[str, int]]
    label_maps: Mapping[str, Mapping[str, int]]
    paper_split: Mapping
    sources: tuple[str, ...]

    @property
    def about(self) -> dict[str, str]:
        """The entries for dataset.json."""
        return {"license": self.licence, "reference": self.citation, "description": self.title}


@dataclass
class Found:
    """What was found of a release: everything that is needed to write it, and what is wrong with it.

    Attributes:
        layout: which of the published layouts it has; a key of the release's ``totals``.
        problems: what keeps it from being converted, a clause each that names file and remedy.
        notes: what the user should know, a sentence each.
        options: how it is to be converted, for provenance.
        cases: for training.
        test_cases: never part of a training fold.
    """

    release: Release
    source: Path
    layout: str
    dataset_name: str
    channel_names: dict[str, str]
    labels: dict[str, int]
    cases: list[Case] = field(default_factory=list)
    test_cases: list[Case] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    options: dict = field(default_factory=dict)
    file_ending: str = ".nii.gz"

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Found and official number of cases by part."""
        everything = self.cases + self.test_cases
        totals = self.release.totals[self.layout]
        return {part: (sum(case.part == part for case in everything), total) for part, total in totals.items()}


@cache
def load_release(name: str) -> Release:
    """The facts of a data set.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in release_names():
        raise UserError(f"There is no data set '{name}'; choose one of {', '.join(release_names())}.")
    entries = json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))
    lists = {key: tuple(entries[key]) for key in ("networks", "sources")}
    return Release(name=name, **{**entries, **lists})


def release_names() -> list[str]:
    """All data sets that can be converted."""
    return sorted(path.name.removesuffix(".json") for path in _folder().iterdir() if path.name.endswith(".json"))


def convert(
    found: Found,
    dataset_id: int,
    *,
    overwrite: bool = False,
    processes: int = 1,
    cut: Callable[[Content], Iterable[Piece]] | None = None,
) -> Path:
    """Write what was found as an nnU-Net dataset, completely or not at all.

    Args:
        found: a converter module's ``find``.
        dataset_id: 1 to 999.
        overwrite: replace an existing dataset of this id and name.
        processes: number of worker processes.
        cut: as of :func:`dataset_conversion.common.write_dataset`.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if the release has problems, or as :func:`dataset_conversion.common.write_dataset` does.
    """
    if found.problems:
        raise UserError(problems_sentence(found))
    for line in describe(found):
        print(line)
    target = write_dataset(
        dataset_id,
        found.dataset_name,
        found.cases,
        found.channel_names,
        found.labels,
        test_cases=found.test_cases,
        overwrite=overwrite,
        processes=processes,
        provenance={"release": found.release.name, "layout": found.layout, **found.options},
        about=found.release.about,
        file_ending=found.file_ending,
        cut=cut,
    )
    print(f"Next: nnUNetv2_plan_and_preprocess -d {dataset_id} -c 2d --verify_dataset_integrity")
    print(f"Then: nnunet-sfma splits -d {dataset_id} --scheme five-fold (or paper), which keeps subjects together")
    return target


def describe(found: Found) -> list[str]:
    """What was found, for people: layout, counts against the official totals, notes."""
    lines = [f"{found.release.title}, {found.layout}, in {found.source}"]
    for part, (count, total) in found.counts.items():
        lacking = "" if count == total else f" ({total - count} missing)" if count < total else " (more than published)"
        lines.append(f"  {part}: {count} of {total}{lacking}")
    return lines + [f"  Note: {note}" for note in found.notes]


def to_json(found: Found) -> str:
    """What was found, for scripts."""
    entries = {
        "release": found.release.name,
        "layout": found.layout,
        "source": str(found.source),
        "counts": {part: {"found": count, "official": total} for part, (count, total) in found.counts.items()},
        "problems": found.problems,
        "notes": found.notes,
        "training_cases": [case.identifier for case in found.cases],
        "test_cases": [case.identifier for case in found.test_cases],
    }
    return json.dumps(entries, indent=2)


def problems_sentence(found: Found) -> str:
    """All problems in one sentence."""
    some, more = found.problems[:10], len(found.problems) - 10
    return (
        f"Cannot convert {found.source}: {'; '.join(some)}{f'; and {more} more' if more > 0 else ''}; complete the "
        "download or move these cases away."
    )


def format_list() -> str:
    """All data sets with size, licence, citation and where to apply for access, for people."""
    blocks = []
    for release in map(load_release, release_names()):
        rows = {
            "size": release.size,
            "licence": release.licence,
            "access": release.access,
            "citation": release.citation,
            "used by": ", ".join(release.networks),
        }
        blocks.append("\n".join([f"{release.name}: {release.title}", *(f"  {k:9}{v}" for k, v in rows.items())]))
    return "\n\n".join(blocks)


def list_to_json() -> str:
    """The facts of all data sets as JSON."""
    return json.dumps([asdict(load_release(name)) for name in release_names()], indent=2, ensure_ascii=False)


def list_files(source: Path, release: Release) -> list[Path]:
    """All files below a folder, sorted, through symbolic links; hidden files and those of macOS are left out.

    Raises:
        UserError: if the source is no folder or holds no file, or a name in it is not UTF-8.
    """
    source = Path(source)
    if not source.is_dir():
        raise UserError(f"The source {source} is not a folder; give the one with the unpacked {release.name} release.")
    found = sorted(_walk(source))
    _check_names(found)
    if not found:
        raise UserError(f"The source {source} is empty; give the folder with the unpacked {release.name} release.")
    return found


def nothing_found(source: Path, release: Release) -> UserError:
    """The error for a folder that does not hold the release; names the one that it seems to hold instead."""
    return UserError(f"No {release.title} in {source}: expected {release.expected}{_seems(Path(source), release)}.")


def by_key(paths: Iterable[Path], pattern: str) -> dict[str, list[Path]]:
    """The files whose whole name matches, by the pattern's first group; upper and lower case count the same."""
    expression = re.compile(pattern, re.IGNORECASE)
    found = defaultdict(list)
    for path in paths:
        match = expression.fullmatch(path.name)
        if match:
            found[match[1]].append(path)
    return dict(found)


def only_one(files: Mapping[str, Sequence[Path]], problems: list[str]) -> dict[str, Path]:
    """The file of each key; several files for one key are added to the problems."""
    for key, paths in files.items():
        if len(paths) > 1:
            problems.append(f"{key} has several files ({' and '.join(str(path) for path in paths)}); keep one of them")
    return {key: paths[0] for key, paths in files.items()}


def in_pairs(images: Mapping[str, object], masks: Mapping[str, object], problems: list[str]) -> list[str]:
    """The keys with an image and a mask, sorted; what lacks its counterpart is added to the problems."""
    problems += [f"{key} has an image but no mask" for key in sorted(set(images) - set(masks))]
    problems += [f"{key} has a mask but no image" for key in sorted(set(masks) - set(images))]
    return sorted(set(images) & set(masks))


def is_testing(path: Path, source: Path) -> bool:
    """Whether a file is in the part Testing: the nearest folder called Training or Testing, from the source's on."""
    folders = [folder.lower() for folder in (Path(source).name, *path.relative_to(source).parts[:-1])]
    return [folder for folder in folders if folder in ("training", "testing")][-1:] == ["testing"]


def _folder():
    return files("dataset_conversion").joinpath("releases")


def _walk(folder: Path) -> Iterator[Path]:
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(place)
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _check_names(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            # ITK would end the whole program.
            raise UserError(f"The name {os.fsencode(path)!r} is not UTF-8; rename that file or folder.") from None


def _seems(source: Path, release: Release) -> str:
    names = {name for path in _walk(source) for name in (source.resolve().name, *path.relative_to(source).parts)}
    for other in map(load_release, release_names()):
        pattern = re.compile(other.typical_file, re.IGNORECASE)
        if other.name != release.name and any(pattern.fullmatch(name) for name in names):
            return f"; this looks like {other.title} (nnunet-sfma convert {other.name})"
    archives = sorted(name for name in names if name.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz", ".7z")))
    return f"; unpack {archives[0]} first" if archives else ""
