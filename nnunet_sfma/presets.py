"""Presets: the networks, variants and recipes in ``plans/``, one JSON each.

A preset holds the two blocks that a plan of ours needs, ``architecture`` and ``training``, and what it changes in
nnU-Net's own ``configuration`` (null leaves nnU-Net's value, and as ``architecture`` nnU-Net's network). ``inherits``
names a preset whose entries it changes. A row of a paper's ablation is a preset with some of its entries changed, see
:mod:`nnunet_sfma.ablations`.
"""

import difflib
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from nnunet_sfma.ablations import Ablation, read_ablations
from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import read_json
from nnunet_sfma.sentences import shortened


@dataclass(frozen=True)
class Preset:
    """One preset with its inheritance resolved; ``architecture`` and ``training`` are whole blocks.

    ``architecture`` is None where the network is that of nnU-Net's own plans.

    ``paper`` and ``published_row`` name the paper and the row of its complexity table in ``evaluation/published.json``
    that describes the same network. ``ablation`` names the row of the paper's ablation that was applied, if one was.
    """

    name: str
    description: str
    source: str
    paper: str
    trainer: str
    architecture: dict | None
    training: dict
    configuration: dict
    published_row: str | None
    ablation: str | None = None


def presets_folder() -> Path:
    """Where the presets lie: inside the package of a wheel, beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "plans"
    return inside if inside.is_dir() else package.parent / "plans"


def preset_names() -> list[str]:
    """All presets by name, aliases of ablations among them."""
    return sorted([*(path.stem for path in presets_folder().glob("*.json")), *_aliases()])


def load_preset(name: str, ablation: str | None = None) -> Preset:
    """Read a preset, and apply a row of its paper's ablation.

    Raises:
        UserError: if there is none of that name, or no such row of its network; the sentence gives those that exist.
    """
    if name not in preset_names():
        raise UserError(f"There is no preset '{name}'{nearest(name, preset_names())}; see nnunet-sfma networks.")
    entries = _resolve(name)
    if ablation is not None:
        entries = merge(entries, {**_row(name, ablation).changes, "published_row": None})
    return Preset(
        name=name,
        description=entries["description"],
        source=entries["source"],
        paper=entries["paper"],
        trainer=entries["trainer"],
        architecture=entries["architecture"],
        training=entries["training"],
        configuration={key: value for key, value in entries["configuration"].items() if value is not None},
        published_row=entries.get("published_row"),
        ablation=ablation,
    )


def ablations() -> dict[str, dict[str, Ablation]]:
    """The rows of the papers' ablations by network, which is what the names of its presets begin with, and name."""
    return read_ablations(presets_folder() / "ablations")


def nearest(name: str, known: list[str]) -> str:
    """A clause that names what the user may have meant."""
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f" (did you mean {' or '.join(matches)}?)" if matches else f" (known: {', '.join(known)})"


def merge(base: dict, changes: dict) -> dict:
    """A copy of ``base`` with ``changes`` applied, level by level.

    Keyword arguments of an optimiser or schedule belong to that one optimiser or schedule, so they are replaced whole.
    """
    merged = deepcopy(base)
    for key, value in changes.items():
        mergeable = isinstance(value, dict) and isinstance(merged.get(key), dict)
        whole = key in ("optimizer_kwargs", "lr_schedule_kwargs")
        merged[key] = merge(merged[key], value) if mergeable and not whole else deepcopy(value)
    return merged


def _aliases() -> dict[str, Ablation]:
    return {row.alias: row for rows in ablations().values() for row in rows.values() if row.alias}


def _row(preset: str, name: str) -> Ablation:
    if preset in _aliases():
        alias = _aliases()[preset]
        raise UserError(
            f"The preset '{preset}' is an ablation itself, {alias.alias_of} with {alias.name}: "
            f"use --preset {alias.alias_of} with --ablation."
        )
    rows = ablations().get(preset.partition("-")[0], {})
    if not rows:
        raise UserError(f"The preset '{preset}' has no ablations: presets of {' and '.join(ablations())} have some.")
    if name not in rows:
        raise UserError(f"The preset '{preset}' has no ablation '{shortened(name)}': choose one of {', '.join(rows)}.")
    return rows[name]


def _resolve(name: str) -> dict:
    if row := _aliases().get(name):
        return merge(_resolve(row.alias_of), {**row.changes, "published_row": row.published_row})
    entries = read_json(presets_folder() / f"{name}.json", {"type": "object"}, advice="install nnunet-sfma again")
    parent = entries.pop("inherits", None)
    return merge(_resolve(parent), entries) if parent else entries
