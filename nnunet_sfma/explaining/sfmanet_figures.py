"""SFMANet's figures: its units' gates, weights and attention on every skip, and their Grad-CAM."""

from collections.abc import Iterable

from torch import nn

from nnunet_sfma.explaining import sfmanet_maps as maps
from nnunet_sfma.explaining.collecting import Calls
from nnunet_sfma.explaining.grad_cam import Question, class_activation
from nnunet_sfma.explaining.panels import Curves, FigureOfPanels, Overlay
from nnunet_sfma.networks.sfmanet import AxialAttention, InformationEnhancementModule, SFMANet
from nnunet_sfma.networks.sfmanet.gated_skip import GatedSkip


def attention_figures(network: SFMANet, calls: Calls, pixel: tuple[int, int]) -> list[FigureOfPanels]:
    """The figures of the units that this network has.

    Args:
        network: it has just run on one image.
        calls: collected in that run.
        pixel: row and column of the image whose axial attention is drawn.
    """
    skips = [index for index, skip in enumerate(network.skips) if isinstance(skip, GatedSkip)]
    attended = [index for index, skip in enumerate(network.skips) if isinstance(skip, GatedSkip) and skip.dmau]
    stages = [index for index, iem in enumerate(network.encoder.iem) if _attends(iem)]
    figures = []
    if skips:
        figures += [_spatial_gating(calls, skips), _frequency_gating(network, calls, skips)]
    if attended:
        figures.append(_dual_axis(calls, attended))
    if stages:
        figures.append(_information_enhancement(network, calls, stages, pixel))
    return figures


def grad_cam_figure(network: SFMANet, question: Question) -> FigureOfPanels | None:
    """Grad-CAM of what each unit returns; None for a network without units."""
    units = {
        "SGU": [getattr(skip, "sgu", None) for skip in network.skips],
        "FGU": [getattr(skip, "fgu", None) for skip in network.skips],
        "DMAU": [getattr(skip, "dmau", None) for skip in network.skips],
        "IEM": [_if_enhancing(iem) for iem in network.encoder.iem],
    }
    rows = {
        f"{name} output": [unit and class_activation(network, question, [unit]) for unit in of_stages]
        for name, of_stages in units.items()
        if any(of_stages)
    }
    if not rows:
        return None
    return FigureOfPanels(
        "Grad-CAM of SFMANet's units",
        f"Class activation maps of what each unit returns. {question.caption}",
        _names("stage", range(len(network.skips))),
        rows,
    )


def _spatial_gating(calls: Calls, skips: list[int]) -> FigureOfPanels:
    return FigureOfPanels(
        "SGU: gate and spatial attention",
        "Upper row: the spatial gating unit's gate W1 (mean over channels; 1 where all channels take the position for "
        "informative). Lower row: its attention A, by which every position is multiplied (equation 6).",
        _names("skip", skips),
        {
            "SGU gate W1": [Overlay(maps.informative_gate(calls, i)) for i in skips],
            "SGU attention A": [Overlay(maps.spatial_attention(calls, i)) for i in skips],
        },
    )


def _frequency_gating(network: SFMANet, calls: Calls, skips: list[int]) -> FigureOfPanels:
    curves = []
    for i in skips:
        y1, y2 = maps.frequency_weights(calls, i)
        even = 1.0 if network.skips[i].fgu.weigh.rescale else 1 / (2 * len(y1))
        curves.append(Curves({"Y1 (high part)": y1, "Y2 (low part)": y2}, even))
    return FigureOfPanels(
        "FGU: channel weights",
        "The frequency gating unit's weights W of the channels of Y1, from the high frequency part, and of Y2, from "
        "the low one, each from the largest to the smallest (equation 13); dashed is the weight if all were alike.",
        _names("skip", skips),
        {"FGU weight W": curves},
    )


def _dual_axis(calls: Calls, skips: list[int]) -> FigureOfPanels:
    before, after = zip(*(maps.skip_magnitudes(calls, i) for i in skips), strict=True)
    return FigureOfPanels(
        "DMAU: strip attention, and the skip before and after it",
        "Upper row: the dual-axis unit's attention, the factor of the skip's feature in equation 20. Below: that "
        "feature as the encoder gives it, and as the decoder gets it. All are mean absolute values over channels.",
        _names("skip", skips),
        {
            "DMAU attention": [Overlay(maps.strip_attention(calls, i)) for i in skips],
            "skip in": [Overlay(values) for values in before],
            "skip out": [Overlay(values) for values in after],
        },
    )


def _information_enhancement(
    network: SFMANet, calls: Calls, stages: list[int], pixel: tuple[int, int]
) -> FigureOfPanels:
    panels = []
    for i in stages:
        iem = network.encoder.iem[i]
        here = (pixel[0] // 2**i, pixel[1] // 2**i)
        weights = maps.axial_attention(iem.column_attention, iem.row_attention, calls, i, here)
        panels.append(Overlay(weights * weights.numel(), pixel=here))
    return FigureOfPanels(
        "IEM: axial attention of one pixel",
        "What the information enhancement module's column and row attention gathers for the pixel marked with a cross: "
        "the product of both weights, where 1 is an even share (equation 23).",
        _names("stage", stages),
        {"IEM attention": panels},
    )


def _attends(module: nn.Module) -> bool:
    """Whether a stage has an IEM whose axial attention is not the identity."""
    return isinstance(module, InformationEnhancementModule) and isinstance(module.column_attention, AxialAttention)


def _if_enhancing(module: nn.Module) -> InformationEnhancementModule | None:
    """The module, unless it is the identity of a stage without IEM."""
    return module if isinstance(module, InformationEnhancementModule) else None


def _names(what: str, indices: Iterable[int]) -> list[str]:
    return [f"{what} {index + 1}" for index in indices]
