"""``training.pretrained``: the published weights that a fresh training starts from.

A network that can start from such weights has an attribute ``pretrained_part``, the stream that takes them (None if it
was built without it), which knows their name on the hub (``weights_name``) and loads a file of them
(``load_pretrained``).
"""

from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist
from torch import nn

from nnunet_sfma.errors import UserError
from nnunet_sfma.trainers import hub


def check_pretrained(network: nn.Module, pretrained: str) -> None:
    """Refuse a setting that this network cannot follow; no file is looked for yet.

    Raises:
        UserError: if the network has no place for published weights, or nobody published any for its sizes.
    """
    if pretrained == "none":
        return
    part = getattr(network, "pretrained_part", None)
    if part is None:
        raise UserError(f"No published weights fit this {type(network).__name__}: it has no MaxViT to take them.")
    if pretrained == "imagenet" and part.weights_name is None:
        raise UserError(
            f"There are no ImageNet weights for {type(network).__name__} with these widths and depths: set "
            f"training.pretrained to none or to a file."
        )


def start_from_pretrained(network: nn.Module, pretrained: str) -> Path:
    """Load the weights that the setting names into the bare network, on every rank the same file.

    Raises:
        UserError: if they cannot be had or do not fit.
    """
    part = network.pretrained_part
    path = on_first_rank(lambda: hub.fetch(part.weights_name) if pretrained == "imagenet" else Path(pretrained))
    load(part, path)
    return path


def load(part: nn.Module, path: Path) -> None:
    """Load a file of published weights into the stream that takes them.

    Raises:
        UserError: if the file is missing, unreadable or of another model; the stream is as it was then.
    """
    if not path.is_file():
        raise UserError(f"There is no file of weights {path}: give the path of a .safetensors or .pth file.")
    try:
        part.load_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f"The weights {path} cannot be loaded: {error}.") from error


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
