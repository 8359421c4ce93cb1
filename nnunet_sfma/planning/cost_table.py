"""``nnunet-sfma networks``: the cost of every preset beside the published figures."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING

from nnunet_sfma.evaluation.published import load_published
from nnunet_sfma.presets import Preset, ablations, load_preset, preset_names

if TYPE_CHECKING:
    from nnunet_sfma.networks.cost import Cost

HEADINGS = {"sfmanet": "SFMANet", "danie": "DANIE", "peer": "Peers"}
"""Of the tables, by what the names of their presets begin with."""


@dataclass(frozen=True)
class CostRow:
    """One preset: parameters in millions, multiply-adds in billions (1e9) and what the paper prints, if anything.

    A network that belongs to a data set's plan has no cost of its own: None.
    ``accelerated_conv_gmacs`` is what is left of conv_gmacs where the network is accelerated, as in training.
    ``difference_percent`` is that of conv_gmacs to the published figure, where both count the same. ``remark`` says why
    they differ, as far as anybody knows.
    """

    preset: str
    paper: str
    description: str
    parameters_millions: float | None
    conv_gmacs: float | None
    matmul_gmacs: float | None
    accelerated_conv_gmacs: float | None
    published_parameters_millions: float | None
    published_flops_billions: float | None
    difference_percent: float | None
    remark: str | None


def cost_rows() -> list[CostRow]:
    """A row for each preset, in alphabetical order; presets with the same architecture are measured once.

    Networks of a library that is not installed are left out.
    """
    from nnunet_sfma.trainers.complete_plans import MissingLibraryError

    rows = []
    for preset in map(load_preset, preset_names()):
        with suppress(MissingLibraryError):
            rows.append(_row(preset, _measure(preset.paper, json.dumps(preset.architecture, sort_keys=True))))
    return rows


def format_table(rows: list[CostRow]) -> str:
    """The rows as Markdown, a table with its conventions for each paper and one for the peers, if they have rows."""
    from nnunet_sfma.networks.cost import CONVENTION

    by_heading = {name: [row for row in rows if _heading(row.preset) == name] for name in HEADINGS}
    tables = [_format_rows(name, of_heading) for name, of_heading in by_heading.items() if of_heading]
    return "\n\n".join([*tables, f"How it is counted: {CONVENTION}."])


def to_json(rows: list[CostRow]) -> str:
    """The rows as JSON, with the convention and the presets that were left out."""
    from nnunet_sfma.networks.cost import CONVENTION

    papers = dict.fromkeys(row.paper for row in rows)
    content = {
        "image_shapes": {paper: load_published()[paper]["complexity"]["image_shape"] for paper in papers},
        "convention": CONVENTION,
        "networks": [asdict(row) for row in rows],
        "ablations": {
            network: {name: row.description for name, row in of_one.items()} for network, of_one in ablations().items()
        },
        "left_out": _left_out(rows),
    }
    return json.dumps(content, indent=2)


def _heading(preset: str) -> str:
    return preset.partition("-")[0]


def _left_out(rows: list[CostRow]) -> list[str]:
    """Presets without a row in the tables of these rows."""
    headings = {_heading(row.preset) for row in rows}
    shown = {row.preset for row in rows}
    return [name for name in preset_names() if name not in shown and _heading(name) in headings]


@cache
def _measure(paper: str, architecture: str) -> "Cost | None":
    """The cost of an ``architecture`` block, as JSON; None for null."""
    import torch

    from nnunet_sfma.networks.cost import measure_cost
    from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch

    block, table = json.loads(architecture), load_published()[paper]["complexity"]
    if block is None:
        return None
    channels, *size = table["image_shape"]
    with torch.device("meta"):
        network = build_network(fit_to_patch(block, size), channels, table["classes"])
    return measure_cost(network, table["image_shape"])


def _row(preset: Preset, cost: "Cost | None") -> CostRow:
    table = load_published()[preset.paper]["complexity"]
    published = table["rows"][preset.published_row] if preset.published_row else {}
    flops = published.get("flops_billions")
    comparable = flops is not None and table["flops_are_conv_macs"]
    return CostRow(
        preset=preset.name,
        paper=preset.paper,
        description=preset.description,
        parameters_millions=cost and cost.parameters / 1e6,
        conv_gmacs=cost and cost.conv_macs / 1e9,
        matmul_gmacs=cost and cost.matmul_macs / 1e9,
        accelerated_conv_gmacs=cost and cost.accelerated_conv_macs / 1e9,
        published_parameters_millions=published.get("parameters_millions"),
        published_flops_billions=flops,
        difference_percent=100 * (cost.conv_macs / 1e9 / flops - 1) if comparable else None,
        remark=published.get("remark"),
    )


def _format_rows(heading: str, rows: list[CostRow]) -> str:
    table = load_published()[rows[0].paper]["complexity"]
    channels, height, width = table["image_shape"]
    lines = [
        f"{HEADINGS[heading]}, counted for {channels} x {height} x {width} and "
        f"{table['classes']} {'class' if table['classes'] == 1 else 'classes'}:",
        "",
        "| preset | parameters (M) | published (M) | conv (GMAC) | matmul (GMAC) "
        "| accelerated conv (GMAC) | published FLOPs (G) | difference | what it is |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    remarks = list(dict.fromkeys(row.remark for row in rows if row.remark))
    for row in rows:
        mark = f" [{remarks.index(row.remark) + 1}]" if row.remark else ""
        difference = "" if row.difference_percent is None else f"{round(row.difference_percent, 1) + 0.0:+} %{mark}"
        lines.append(
            f"| {row.preset} | {_number(row.parameters_millions)} | {_number(row.published_parameters_millions)} "
            f"| {_number(row.conv_gmacs)} | {_number(row.matmul_gmacs)} | {_number(row.accelerated_conv_gmacs)} "
            f"| {_number(row.published_flops_billions)} | {difference} | {row.description} |"
        )
    notes = []
    if left_out := _left_out(rows):
        notes.append(f"Left out for want of MONAI (pip install 'nnunet-sfma[peers]'): {', '.join(left_out)}.")
    if of_network := ablations().get(heading):
        notes.append(f"Ablations, with the recipe of any preset (plan --ablation ROW): {', '.join(of_network)}.")
    notes += [f"Published: {table['source']}. {table['note']}"]
    notes += [f"[{number}] {remark}" for number, remark in enumerate(remarks, 1)]
    return "\n".join([*lines, "", "\n\n".join(notes)])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
