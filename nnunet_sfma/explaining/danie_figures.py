"""DANIE's figures: the attention of its local stream, between its channels and in its fusion, and Grad-CAM."""

from collections.abc import Iterable, Iterator

from torch import nn

from nnunet_sfma.explaining import danie_maps as maps
from nnunet_sfma.explaining.collecting import Calls
from nnunet_sfma.explaining.danie_probes import attention_probes
from nnunet_sfma.explaining.grad_cam import Question, class_activation
from nnunet_sfma.explaining.panels import Curves, FigureOfPanels, Matrix, Overlay, Panel
from nnunet_sfma.networks.danie import (
    DANIE,
    EnhancingHierarchicalAttention,
    EnhancingSelfAttention,
    HierarchicalAttentionBlock,
)

STAGES = ("stage 1", "stage 2", "stage 3", "stage 4")


def attention_figures(network: DANIE, calls: Calls) -> list[FigureOfPanels]:
    """The figures of the units that this network has.

    Args:
        network: it has just run on one image.
        calls: collected in that run.
    """
    return [
        *([] if network.hap is None else [_positions(network, calls)]),
        *_channels(network, calls),
        _joint_preservation(network, calls),
    ]


def grad_cam_figure(network: DANIE, question: Question) -> FigureOfPanels:
    """Grad-CAM of four kinds of attention, as in the paper's Figure 1, and of what joins them."""
    rows: dict[str, list[Panel]] = {}
    sources = []
    for name, source, panels in (
        *_local_rows(network, question),
        *_global_rows(network, question),
        ("joined (JP)", "what joint preservation returns", _row(network, question, network.joint_preservation.blocks)),
    ):
        rows[name] = panels
        sources.append(source)
    return FigureOfPanels(
        "Grad-CAM of local and global, spatial and channel attention",
        f"Class activation maps, from above, of {', '.join(sources)}. {question.caption} {_which_network(network)}",
        STAGES,
        rows,
    )


def _local_rows(network: DANIE, question: Question) -> Iterator[tuple[str, str, list[Panel]]]:
    """Name, source and maps of the attentions that the hierarchical stream has."""
    blocks = [] if network.hap is None else _last_blocks(network)
    of_stages: dict[str, list[Panel]] = {"spatial": [], "channel": []}
    for block in blocks:
        with attention_probes(block) as probes:
            if block.position is not None:
                of_stages["spatial"].append(class_activation(network, question, probes.spatial))
            if block.mlp is not None:
                of_stages["channel"].append(class_activation(network, question, probes.channel))
    for kind, panels in of_stages.items():
        if panels:
            yield f"local {kind}\n(HAP)", f"HAP's feature after its {kind} attention (mean of both branches)", panels


def _global_rows(network: DANIE, question: Question) -> Iterator[tuple[str, str, list[Panel]]]:
    if network.sap is not None:
        stages = [network.sap.maxvit[f"stages_{i}"] for i in range(len(STAGES))]
        yield "global spatial\n(SAP)", "SAP's feature", _row(network, question, stages)
    if all(units := _enhancing(network, "es")):
        yield "global channel\n(ES)", "ES's, which follows SAP", _row(network, question, units)


def _row(network: DANIE, question: Question, layers: Iterable[nn.Module]) -> list[Panel]:
    return [class_activation(network, question, [layer]) for layer in layers]


def _which_network(network: DANIE) -> str:
    """The paper's figure compares networks that lack a dimension; this one looks into a single network."""
    lacking = []
    if network.sap is None:
        lacking.append("self-attention")
    if network.hap is None:
        lacking.append("hierarchical attention")
    else:
        block = network.hap.stages[0][0]
        lacking += [
            f"local {name} attention"
            for name, part in (("spatial", block.position), ("channel", block.mlp))
            if part is None
        ]
    if lacking:
        return f"This network was trained without {' and '.join(lacking)}, like one of the paper's Figure 1."
    second = "channel" if network.hap.stages[0][0].spatial_first else "spatial"
    return (
        f"These are layers of one trained network, in which the local {second} attention follows the other; the "
        "paper's Figure 1 compares networks that were trained without a kind."
    )


def _positions(network: DANIE, calls: Calls) -> FigureOfPanels:
    names, blocks = _last_block_names(network), _last_blocks(network)
    rows: dict[str, list[Panel]] = {}
    of_branches = ""
    if blocks[0].position is not None:
        branches = [maps.position_attention(calls, name) for name in names]
        rows["HAP s (max)"] = [Overlay(branch.maximum) for branch in branches]
        rows["HAP s (average)"] = [Overlay(branch.average) for branch in branches]
        of_branches = "s of the branches of maximum and average (equation 3), and "
    if blocks[0].calibrate is not None:
        rows["HAP A_d"] = [Overlay(maps.calibrated_attention(calls, name)) for name in names]
    return FigureOfPanels(
        "HAP: attention to positions",
        "Hierarchical-attentional perception's weights of the positions, in the last block of each stage: "
        f"{of_branches}A_d, calibrated from both branches (equation 5).",
        STAGES,
        rows,
    )


def _channels(network: DANIE, calls: Calls) -> list[FigureOfPanels]:
    rows: dict[str, list[Panel]] = {}
    sentences = []
    if network.hap is not None and _last_blocks(network)[0].mlp is not None:
        weights = [maps.channel_attention(calls, name) for name in _last_block_names(network)]
        rows["HAP c"] = [Curves({"max": one.maximum, "average": one.average}) for one in weights]
        sentences.append(
            "HAP's weights c of the channels in its two branches, each from the largest to the smallest (equation 2)."
        )
    if all(units := _enhancing(network, "es")):
        rows["ES w"] = [Matrix(maps.channel_matrix(unit, calls, i)) for i, unit in enumerate(units)]
        gains = ", ".join(f"{unit.gain.item():.2g}" for unit in units)
        sentences.append(
            "ES's weights w between the channels of the global stream: how much the channel of a row takes from that "
            f"of a column (equation 6); lambda, by which the result counts, is {gains}."
        )
    return [FigureOfPanels("HAP and ES: attention to channels", " ".join(sentences), STAGES, rows)] if rows else []


def _joint_preservation(network: DANIE, calls: Calls) -> FigureOfPanels:
    rows: dict[str, list[Panel]] = {}
    sentences = []
    if all(_enhancing(network, "eh")):
        context = [maps.context_attention(calls, i) for i in range(4)]
        rows["EH a"] = [Overlay(values * values.numel()) for values in context]
        sentences.append(
            "EH's attention a to the positions of the local stream, of which it makes one context for the whole image; "
            "1 is an even share (equation 8)."
        )
    rows["JP j"] = [Overlay(maps.joint_feature(calls, i)) for i in range(4)]
    sentences.append("What joint preservation returns, as mean absolute value over channels (equation 11).")
    return FigureOfPanels("JP: context and joint feature", " ".join(sentences), STAGES, rows)


def _enhancing(network: DANIE, name: str) -> list[nn.Module | None]:
    """The fusions' ES or EH; None where there is another fusion or an identity."""
    units = (getattr(fusion, name, None) for fusion in network.joint_preservation.fusions)
    kinds = (EnhancingSelfAttention, EnhancingHierarchicalAttention)
    return [unit if isinstance(unit, kinds) else None for unit in units]


def _last_blocks(network: DANIE) -> list[HierarchicalAttentionBlock]:
    return [stage[-1] for stage in network.hap.stages]


def _last_block_names(network: DANIE) -> list[str]:
    return [f"hap.stages.{i}.{len(stage) - 1}" for i, stage in enumerate(network.hap.stages)]
