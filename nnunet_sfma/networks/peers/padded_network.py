"""A library's 2D network behind the interface of this package's networks."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

POSITION_TABLES = ("position_embeddings", "relative_position_bias_table")


class PaddedNetwork(nn.Module):
    """Checks and pads the image, lets the library's network compute, and crops its output.

    The head keeps the name that the library gave it. nnU-Net's ``-pretrained_weights`` leaves out a head of another
    label set by the name ``seg_layers``, so here it needs weights of the same number of classes.

    Args:
        network: maps (B, input_channels, H, W) to logits (B, num_classes, H, W).
        input_channels: channels of the image.
        divisor: of the sides that ``network`` takes. They are at least twice as long, so that a norm never sees a
            single position.
        image_size: (H, W) of the images if ``network`` belongs to one size, that of ``padded_size``; None if it takes
            any.
    """

    def __init__(self, network: nn.Module, input_channels: int, divisor: int, image_size: Sequence[int] | None = None):
        super().__init__()
        self.network = network
        self.input_channels = input_channels
        self.divisor = divisor
        self.only_size = None if image_size is None else self.padded_size(image_size)

    def padded_size(self, size: Sequence[int]) -> tuple[int, int]:
        """(H, W) that the network computes with: multiples of the divisor, from its double on."""
        return pad_to_multiples(size, self.divisor)

    def no_weight_decay(self) -> set[str]:
        """Names of what has the shape of weight matrices and is none: tables of positions."""
        return {name for name, _ in self.named_parameters() if name.endswith(POSITION_TABLES)}

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The library network's output for an image of a size that it takes; overridden where there are several."""
        return self.network(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image (B, input_channels, H, W) to logits (B, num_classes, H, W).

        Sides are padded with zeros at the end to what the network takes, and the logits cropped back.

        Raises:
            ValueError: if the image has other channels, is no batch of 2D images, or is larger than the one size that
                the network belongs to.
        """
        if x.ndim != 4 or x.shape[1] != self.input_channels or self._is_too_large(x.shape[2:]):
            sides = "height, width" if self.only_size is None else "{} or less, {} or less".format(*self.only_size)
            raise ValueError(
                f"{type(self).__name__} was built for images of shape (batch, {self.input_channels}, {sides}), "
                f"got {tuple(x.shape)}"
            )
        height, width = x.shape[2:]
        padded = self.only_size or self.padded_size((height, width))
        x = F.pad(x, (0, padded[1] - width, 0, padded[0] - height))
        return self.logits(x)[..., :height, :width]

    def _is_too_large(self, size: Sequence[int]) -> bool:
        return self.only_size is not None and (size[0] > self.only_size[0] or size[1] > self.only_size[1])


def pad_to_multiples(size: Sequence[int], divisor: int) -> tuple[int, int]:
    """The smallest multiples of ``divisor``, from its double on, that hold (H, W)."""
    height, width = (max(-(-side // divisor), 2) * divisor for side in size)
    return height, width
