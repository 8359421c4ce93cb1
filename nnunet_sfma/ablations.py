"""Ablations: rows of the papers' tables, in ``plans/ablations/``, one JSON per network.

A row holds what it changes in a preset of its network; patch, batch, epochs and all else are the preset's. Rows that
were presets before there was this axis keep the name as an alias, of ``alias_of`` with that row.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from nnunet_sfma.json_files import read_json


@dataclass(frozen=True)
class Ablation:
    """One row.

    Attributes:
        name: as ``nnunet-sfma plan --ablation`` takes it.
        description: what is left of the network, or changed in it.
        arch_kwargs: what it changes in the network's arguments.
        training: what it has to change in the recipe for that.
        source: the paper's table, where the description does not name it.
        alias: the name of a preset that is ``alias_of`` with this row.
        alias_of: a preset.
        published_row: that of the alias, see :class:`nnunet_sfma.presets.Preset`.
    """

    name: str
    description: str
    arch_kwargs: dict
    alias_of: str
    training: dict = field(default_factory=dict)
    source: str | None = None
    alias: str | None = None
    published_row: str | None = None

    @property
    def changes(self) -> dict:
        """What differs in a preset, in its own blocks."""
        source = {"source": self.source} if self.source else {}
        architecture = {"arch_kwargs": self.arch_kwargs}
        return {"description": self.description, **source, "architecture": architecture, "training": self.training}


@cache
def read_ablations(folder: Path) -> dict[str, dict[str, Ablation]]:
    """The rows by network, such as "sfmanet", and name; none if there is no such folder."""
    return {path.stem: _rows(path) for path in sorted(folder.glob("*.json"))}


def _rows(path: Path) -> dict[str, Ablation]:
    content = read_json(path, {"type": "object"}, advice="install nnunet-sfma again")
    return {name: Ablation(name, alias_of=content["alias_of"], **row) for name, row in content["rows"].items()}
