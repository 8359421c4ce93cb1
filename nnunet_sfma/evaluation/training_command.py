"""The exact command that trained a fold, as far as its folder tells."""

import contextlib
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import read_json
from nnunet_sfma.trainers.typed_training import remembered_command

DEVICES = ("cuda", "cpu", "mps")
DEBUG = {"type": "object", "required": ["device"], "properties": {"device": {"type": "string"}}}


def training_command(fold: Path, shortest: str) -> str:
    """Return what was typed to train a fold, with ``--npz`` if the validation's probabilities are there.

    Args:
        fold: its folder.
        shortest: the command without options that the folder may tell; for trainings that did not note theirs.
    """
    command = remembered_command(fold) or f"{shortest}{_device(fold)}"
    has_probabilities = any((fold / "validation").glob("*.npz"))
    return f"{command} --npz" if has_probabilities and "--npz" not in command.split() else command


def _device(fold: Path) -> str:
    """The option that names the device, as nnU-Net's description of the trainer has it."""
    with contextlib.suppress(UserError):
        kind = read_json(fold / "debug.json", DEBUG)["device"].partition(":")[0]
        return f" -device {kind}" if kind in DEVICES else ""
    return ""
