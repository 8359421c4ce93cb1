"""Grad-CAM of a segmentation network's modules, by the library grad-cam."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn

from nnunet_sfma.explaining.panels import Overlay

INSTALL = "Grad-CAM figures need the library grad-cam: pip install 'nnunet-sfma[explain]'."


@dataclass(frozen=True)
class Question:
    """What Grad-CAM is asked: which features raise the logits of a class over some pixels.

    Attributes:
        image: (1, channels, H, W).
        channel: of the logits.
        mask: (H, W), boolean, some of it true.
        pixels: what the mask holds, "predicted" or "labelled" pixels.
    """

    image: torch.Tensor
    channel: int
    mask: np.ndarray
    pixels: str

    @property
    def caption(self) -> str:
        """How a map is to be read."""
        return (
            f"Channels are weighted by how much they raise the class's logits over its {self.pixels} pixels; what "
            "lowers them is left out, and 1 is a map's own maximum."
        )


def is_installed() -> bool:
    """Whether there is the library."""
    return find_spec("pytorch_grad_cam") is not None


def class_activation(network: nn.Module, question: Question, layers: Sequence[nn.Module]) -> Overlay:
    """The mean of the maps of some modules, which return features (1, C, h, w) once in a forward pass.

    A module's map is its channels weighted by the mean gradient of the summed logits, without what is negative, in 0 to
    1 of its maximum. Each module takes a pass of its own: with several the library relies on the order of gradients.

    Returns:
        A panel of the image's resolution, with the same colours whatever the map.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget

    target = SemanticSegmentationTarget(question.channel, question.mask)
    image = question.image.detach().requires_grad_()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    maps = []
    try:
        network.requires_grad_(False)  # nobody asks for their gradients, which take a quarter of the time
        for layer in layers:
            with GradCAM(network, [layer]) as grad_cam:
                maps.append(grad_cam(image, [target])[0])
    finally:
        for parameter in trained:
            parameter.requires_grad_()
    return Overlay(torch.from_numpy(np.mean(maps, axis=0)), limits=(0.0, 1.0))
