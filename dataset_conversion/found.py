"""What was found of a release on the disk, and its conversion."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dataset_conversion.cases import Case, Content, Piece
from dataset_conversion.common import write_dataset
from dataset_conversion.folds import N_FOLDS
from dataset_conversion.image_files import is_utf8
from dataset_conversion.release import Release
from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import first_few


@dataclass
class Found:
    """What was found of a release: everything that is needed to write it, and what is wrong with it.

    Attributes:
        layout: which of the published layouts it has; a key of the release's ``totals``.
        problems: what keeps it from being converted, a clause each that names file and remedy.
        notes: what the user should know, a sentence each.
        options: how it is to be converted, for provenance.
        resized: how images are resized, for dataset.json, from which ``nnunet-sfma predict`` knows it; None if not.
        cut: cuts or resizes a checked case when it is written, as of :func:`dataset_conversion.common.write_dataset`.
        count: how many nnU-Net cases will come of a case, or may come at most; read from its header.
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
    cut: Callable[[Content], Iterable[Piece]] | None = None
    count: Callable[[Case], int] = lambda case: 1
    file_ending: str = ".nii.gz"
    resized: dict | None = None

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Found and official number of cases by part."""
        totals = self.release.totals[self.layout]
        return {part: (sum(case.part == part for case in self._all), total) for part, total in totals.items()}

    def missing(self, part: str) -> list[str]:
        """The official cases or subjects of a part that were not found, as far as the release's are known."""
        found = {name for case in self._all for name in (case.identifier, case.subject)}
        return [name for name in self.release.official_names(part) if name not in found]

    @property
    def all_problems(self) -> list[str]:
        """The converter's problems, files that cannot be read as they are, and the lack of training cases."""
        unusable = [text for case in self._all for path in case.sources if (text := _unusable(path))]
        nothing = [] if self.cases or self.problems else ["there are no training cases"]
        return [*self.problems, *unusable, *nothing]

    @property
    def _all(self) -> list[Case]:
        return self.cases + self.test_cases


def _unusable(path: Path) -> str | None:
    if not is_utf8(path):
        return f"the name {os.fsencode(path)!r} is not UTF-8 (rename that file or folder)"
    if not path.exists():
        return f"{path} is a link that points nowhere"
    return None if path.stat().st_size else f"{path} is empty"


def convert(
    found: Found,
    dataset_id: int,
    *,
    overwrite: bool = False,
    processes: int = 1,
    command: str | None = None,
) -> Path:
    """Write what was found as an nnU-Net dataset, completely or not at all.

    Args:
        found: a converter module's ``find``.
        dataset_id: 1 to 999.
        overwrite: replace an existing dataset of this id and name.
        processes: number of worker processes.
        command: as of :func:`dataset_conversion.common.write_dataset`.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if the release has problems, or as :func:`dataset_conversion.common.write_dataset` does.
    """
    if found.all_problems:
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
        about={**found.release.about, **({"resized": found.resized} if found.resized else {})},
        file_ending=found.file_ending,
        cut=found.cut,
        command=command,
    )
    print(f"Next: nnUNetv2_plan_and_preprocess -d {dataset_id} -c 2d --verify_dataset_integrity")
    if len({case.subject or case.identifier for case in found.cases}) >= N_FOLDS:
        print(f"Folds: nnunet-sfma splits -d {dataset_id} --scheme five-fold (or paper), which keeps subjects together")
    return target


def describe(found: Found) -> list[str]:
    """What was found, for people: layout, counts against the official totals, notes."""
    lines = [f"{found.release.title}, {found.layout}, in {found.source}"]
    for part, (count, total) in found.counts.items():
        names = first_few(found.missing(part))
        lacking = f" ({total - count} missing{names and f': {names}'})" if count < total else ""
        lines.append(f"  {part}: {count} of {total}{lacking or (' (more than published)' if count > total else '')}")
    return lines + [f"  Note: {note}" for note in found.notes]


def planned_sentence(found: Found) -> str:
    """How many cases a conversion would write.

    Raises:
        UserError: if the header of an image that has to be read for it is damaged.
    """
    planned = _planned(found)
    most = "up to " if found.options.get("paper_slices") == "lesion" else ""
    return f"Would write {most}{planned['training']} training and {planned['test']} test cases."


def _planned(found: Found) -> dict[str, int]:
    return {"training": sum(map(found.count, found.cases)), "test": sum(map(found.count, found.test_cases))}


def to_json(found: Found) -> str:
    """What was found, for scripts."""
    entries = {
        "release": found.release.name,
        "layout": found.layout,
        "source": str(found.source),
        "counts": {
            part: {"found": count, "official": total, "missing": found.missing(part)}
            for part, (count, total) in found.counts.items()
        },
        "problems": found.all_problems,
        "notes": found.notes,
        "training_cases": [case.identifier for case in found.cases],
        "test_cases": [case.identifier for case in found.test_cases],
        "would_write": None if found.all_problems else _planned(found),
    }
    return json.dumps(entries, indent=2)


def problems_sentence(found: Found) -> str:
    """All problems in one sentence."""
    problems = found.all_problems
    some, more = problems[:10], len(problems) - 10
    return (
        f"Cannot convert {found.source}: {'; '.join(some)}{f'; and {more} more' if more > 0 else ''}; complete the "
        "download or move these cases away."
    )
