"""``nnunet-sfma networks``: the cost of every preset beside the published figures."""

import json
from dataclasses import asdict, dataclass
from functools import cache

from nnunet_sfma.evaluation.published import load_published
from nnunet_sfma.presets import Preset, load_preset, preset_names

HEADINGS = {"sfmanet": "SFMANet", "danie": "DANIE"}


@dataclass(frozen=True)
class CostRow:
    """One preset: parameters in millions, multiply-adds in billions (1e9) and what the paper prints, if anything.

    ``difference_percent`` is that of conv_gmacs to the published figure, where both count the same. ``remark`` says why
    they differ, as far as anybody knows.
    """

    preset: str
    paper: str
    description: str
    parameters_millions: float
    conv_gmacs: float
    matmul_gmacs: float
    published_parameters_millions: float | None
    published_flops_billions: float | None
    difference_percent: float | None
    remark: str | None


def cost_rows() -> list[CostRow]:
    """A row for each preset, in alphabetical order; presets with the same architecture are measured once."""
    presets = map(load_preset, preset_names())
    return [_row(preset, _measure(preset.paper, json.dumps(preset.architecture, sort_keys=True))) for preset in presets]


def format_table(rows: list[CostRow]) -> str:
    """The rows as Markdown, a table with its conventions for each paper."""
    from nnunet_sfma.networks.cost import CONVENTION

    tables = [_format_paper(paper, [row for row in rows if row.paper == paper]) for paper in HEADINGS]
    return "\n\n".join([*tables, f"How it is counted: {CONVENTION}."])


def to_json(rows: list[CostRow]) -> str:
    """The rows as JSON, with the convention."""
    from nnunet_sfma.networks.cost import CONVENTION

    image_shapes = {paper: load_published()[paper]["complexity"]["image_shape"] for paper in HEADINGS}
    return json.dumps(
        {"image_shapes": image_shapes, "convention": CONVENTION, "networks": [asdict(row) for row in rows]}, indent=2
    )


@cache
def _measure(paper: str, architecture: str):
    import torch

    from nnunet_sfma.networks.cost import measure_cost
    from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch

    table = load_published()[paper]["complexity"]
    channels, *size = table["image_shape"]
    with torch.device("meta"):
        network = build_network(fit_to_patch(json.loads(architecture), size), channels, table["classes"])
    return measure_cost(network, table["image_shape"])


def _row(preset: Preset, cost) -> CostRow:
    table = load_published()[preset.paper]["complexity"]
    published = table["rows"][preset.published_row] if preset.published_row else {}
    flops = published.get("flops_billions")
    comparable = flops is not None and table["flops_are_conv_macs"]
    return CostRow(
        preset=preset.name,
        paper=preset.paper,
        description=preset.description,
        parameters_millions=cost.parameters / 1e6,
        conv_gmacs=cost.conv_macs / 1e9,
        matmul_gmacs=cost.matmul_macs / 1e9,
        published_parameters_millions=published.get("parameters_millions"),
        published_flops_billions=flops,
        difference_percent=100 * (cost.conv_macs / 1e9 / flops - 1) if comparable else None,
        remark=published.get("remark"),
    )


def _format_paper(paper: str, rows: list[CostRow]) -> str:
    table = load_published()[paper]["complexity"]
    channels, height, width = table["image_shape"]
    lines = [
        f"{HEADINGS[paper]}, counted for {channels} x {height} x {width} and "
        f"{table['classes']} {'class' if table['classes'] == 1 else 'classes'}:",
        "",
        "| preset | parameters (M) | published (M) | conv (GMAC) | matmul (GMAC) | published FLOPs (G) "
        "| difference | what it is |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    remarks = list(dict.fromkeys(row.remark for row in rows if row.remark))
    for row in rows:
        mark = f" [{remarks.index(row.remark) + 1}]" if row.remark else ""
        difference = "" if row.difference_percent is None else f"{round(row.difference_percent, 1) + 0.0:+} %{mark}"
        lines.append(
            f"| {row.preset} | {row.parameters_millions:.2f} | {_number(row.published_parameters_millions)} "
            f"| {row.conv_gmacs:.2f} | {row.matmul_gmacs:.2f} | {_number(row.published_flops_billions)} "
            f"| {difference} | {row.description} |"
        )
    notes = [f"Published: {table['source']}. {table['note']}"]
    notes += [f"[{number}] {remark}" for number, remark in enumerate(remarks, 1)]
    return "\n".join([*lines, "", "\n\n".join(notes)])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
