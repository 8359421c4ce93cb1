"""``nnunet-sfma networks``: the cost of every preset beside the published figures."""

import json
from dataclasses import asdict, dataclass

from nnunet_sfma.evaluation.published import load_published
from nnunet_sfma.presets import load_preset, preset_names

IMAGE_SHAPE = (1, 256, 256)
CLASSES = 1


@dataclass(frozen=True)
class CostRow:
    """One preset: parameters in millions, multiply-adds in billions (1e9) and what the paper prints, if anything."""

    preset: str
    description: str
    parameters_millions: float
    conv_gmacs: float
    matmul_gmacs: float
    published_parameters_millions: float | None
    published_flops_billions: float | None


def cost_rows() -> list[CostRow]:
    """A row for each preset, in alphabetical order; presets with the same architecture are measured once."""
    import torch

    from nnunet_sfma.networks.cost import measure_cost
    from nnunet_sfma.trainers.complete_plans import build_network

    measured = {}
    rows = []
    for name in preset_names():
        preset = load_preset(name)
        key = json.dumps(preset.architecture, sort_keys=True)
        if key not in measured:
            with torch.device("meta"):
                network = build_network(preset.architecture, IMAGE_SHAPE[0], CLASSES)
            measured[key] = measure_cost(network, IMAGE_SHAPE)
        cost = measured[key]
        published = _published(preset.published_row)
        rows.append(
            CostRow(
                preset=name,
                description=preset.description,
                parameters_millions=cost.parameters / 1e6,
                conv_gmacs=cost.conv_macs / 1e9,
                matmul_gmacs=cost.matmul_macs / 1e9,
                published_parameters_millions=published.get("parameters_millions"),
                published_flops_billions=published.get("flops_billions"),
            )
        )
    return rows


def format_table(rows: list[CostRow]) -> str:
    """The rows as a Markdown table with its conventions."""
    from nnunet_sfma.networks.cost import CONVENTION

    lines = [
        "| preset | parameters (M) | published (M) | conv (GMAC) | matmul (GMAC) | published FLOPs (G) | what it is |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.preset} | {row.parameters_millions:.2f} | {_number(row.published_parameters_millions)} "
            f"| {row.conv_gmacs:.2f} | {row.matmul_gmacs:.2f} | {_number(row.published_flops_billions)} "
            f"| {row.description} |"
        )
    complexity = load_published()["sfmanet"]["complexity"]
    return "\n".join(
        [
            *lines,
            "",
            f"Counted for {CLASSES} class and an image of {' x '.join(map(str, IMAGE_SHAPE))}: {CONVENTION}.",
            f"Published: {complexity['source']}. {complexity['note']}",
        ]
    )


def to_json(rows: list[CostRow]) -> str:
    """The rows as JSON, with the convention."""
    from nnunet_sfma.networks.cost import CONVENTION

    return json.dumps(
        {"image_shape": IMAGE_SHAPE, "convention": CONVENTION, "networks": [asdict(row) for row in rows]}, indent=2
    )


def _published(row: str | None) -> dict:
    """``paper/row`` looked up in the published complexity tables."""
    if row is None:
        return {}
    paper, name = row.split("/")
    return load_published()[paper]["complexity"]["rows"][name]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
