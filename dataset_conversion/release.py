"""The published data sets: their facts, which stand in ``releases/*.json``."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

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
        names: the official cases or subjects by part, as far as they are known, ranges as in ``case{0001..0010}``.
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
    names: Mapping[str, Sequence[str]]
    label_maps: Mapping[str, Mapping[str, int]]
    paper_split: Mapping
    sources: tuple[str, ...]

    @property
    def about(self) -> dict[str, str]:
        """The entries for dataset.json."""
        return {"license": self.licence, "reference": self.citation, "description": self.title}

    def official_names(self, part: str) -> list[str]:
        """The official cases or subjects of a part; empty if they are not known."""
        return [name for names in self.names.get(part, ()) for name in _expanded(names)]


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


def _expanded(names: str) -> list[str]:
    """``case{08..10}`` stands for case08, case09 and case10."""
    match = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", names)
    if not match:
        return [names]
    before, first, last, after = match.groups()
    return [f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]


def _folder():
    return files("dataset_conversion").joinpath("releases")
