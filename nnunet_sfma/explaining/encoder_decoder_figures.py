"""Grad-CAM of a network that is not ours: its deepest encoder feature and its last decoder feature."""

from torch import nn

from nnunet_sfma.explaining.grad_cam import Question, class_activation
from nnunet_sfma.explaining.panels import FigureOfPanels


def has_stages(network: nn.Module) -> bool:
    """Whether encoder and decoder are lists of stages, as in nnU-Net's own networks and in SFMANet."""
    parts = (getattr(network, name, None) for name in ("encoder", "decoder"))
    return all(isinstance(getattr(part, "stages", None), (nn.ModuleList, nn.Sequential)) for part in parts)


def grad_cam_figure(network: nn.Module, question: Question) -> FigureOfPanels:
    """Class activation of the encoder's last stage and of the decoder's."""
    layers = {"deepest encoder stage": network.encoder.stages[-1], "last decoder stage": network.decoder.stages[-1]}
    return FigureOfPanels(
        "Grad-CAM of encoder and decoder",
        f"Class activation maps of the encoder's deepest and the decoder's last feature. {question.caption}",
        list(layers),
        {"Grad-CAM": [class_activation(network, question, [layer]) for layer in layers.values()]},
    )
