"""A network that is being applied refuses images from which nothing can be predicted."""

import torch
from torch import nn

from nnunet_sfma.errors import UserError


def refuse_not_finite(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """A forward pre-hook: of values that are not finite a network makes no numbers, and nnU-Net of these background.

    It looks only while the network is applied: training has a check of its own, and each look waits for the GPU. A
    compiled network cannot look.

    Raises:
        UserError: if there is such a value, naming its channel.
    """
    if network.training or torch.compiler.is_compiling() or inputs[0].is_meta:
        return
    finite = inputs[0].isfinite()
    if not finite.all():
        channels = (~finite).transpose(0, 1).flatten(1).any(1).nonzero().flatten().tolist()
        names = ", ".join(map(str, channels))
        raise UserError(
            f"The image that is named last has NaN or infinite voxels in channel {names}: repair it, or move the case "
            "away."
        )
