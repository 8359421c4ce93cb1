"""``training.pretrained``: the published weights that a fresh training starts from."""

from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist
from torch import nn

from nnunet_sfma import weights
from nnunet_sfma.errors import UserError


def check_pretrained(network: nn.Module, pretrained: str) -> None:
    """Refuse a setting that this network cannot follow; no file is looked for yet.

    Raises:
        UserError: if the network has no place for published weights, or nobody published any for its sizes.
    """
    name = type(network).__name__
    if pretrained != "none" and not hasattr(network, "load_pretrained"):
        raise UserError(f"There are no published weights for {name}: set training.pretrained to none.")
    if pretrained == "imagenet" and network.weights_name is None:
        raise UserError(
            f"There are no ImageNet weights for {name} with these streams, widths and depths: set training.pretrained "
            f"to none or to a file."
        )


def start_from_pretrained(network: nn.Module, pretrained: str) -> Path:
    """Load the weights that the setting names into the bare network, on every rank the same file.

    Raises:
        UserError: if they cannot be had or do not fit.
    """
    path = on_first_rank(lambda: weights.fetch(network.weights_name) if pretrained == "imagenet" else Path(pretrained))
    weights.load(network, path)
    return path


def on_first_rank(find: Callable[[], Path]) -> Path:
    """What ``find`` returns on rank 0, where alone it is called, or its UserError, on every rank of a training."""
    if not dist.is_initialized():
        return find()
    found: list[Path | UserError | None] = [None]
    if dist.get_rank() == 0:
        try:
            found = [find()]
        except UserError as error:
            found = [error]
    dist.broadcast_object_list(found, src=0)
    if isinstance(found[0], UserError):
        raise found[0]
    return found[0]
