"""The ``nnUNetv2_train`` that a user typed: its plans are looked for early, and a training remembers its command."""

import contextlib
import json
import shlex
import sys
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.json_files import read_json
from nnunet_sfma.nnunet_folders import dataset_name, nnunet_folder
from nnunet_sfma.standard_argparse import argparse

PROGRAM = "nnUNetv2_train"
NO_PLANS = "There are no plans {}: make them with nnUNetv2_plan_and_preprocess or nnunet-sfma plan, or check -p."
NAME = "training_command.json"
SCHEMA = {
    "type": "object",
    "required": ["command"],
    "properties": {
        "command": {"type": "array", "prefixItems": [{"const": PROGRAM}], "items": {"type": "string"}, "minItems": 4}
    },
}


def typed_training() -> list[str] | None:
    """Return the command that this process runs, if it is ``nnUNetv2_train``."""
    return [PROGRAM, *sys.argv[1:]] if Path(sys.argv[0]).stem in (PROGRAM, "run_training") else None


def refuse_missing_plans() -> None:
    """Look for the plans of the ``nnUNetv2_train`` under way; nnU-Net would end in a stack trace.

    Raises:
        UserError: if they are not there or damaged, or there is no such data set.
    """
    command = typed_training()
    if command is None:
        return
    typed = _parser().parse_known_args(command[1:])[0]
    path = nnunet_folder("nnUNet_preprocessed") / dataset_name(typed.dataset) / f"{typed.p}.json"
    read_json(path, {"type": "object"}, missing=NO_PLANS.format(path))


def remember_command(fold: Path) -> None:
    """Write into a fold's folder which command trains it; nothing if Python code does.

    Raises:
        UserError: if it cannot be written.
    """
    command = typed_training()
    if command is None:
        (fold / NAME).unlink(missing_ok=True)
    else:
        replace_text(fold / NAME, json.dumps({"command": command}) + "\n")


def remembered_command(fold: Path) -> str | None:
    """Return the command that a fold was trained with, as it was typed; None if nothing says so."""
    with contextlib.suppress(UserError):
        return shlex.join(read_json(fold / NAME, SCHEMA)["command"])
    return None


def _parser() -> argparse.ArgumentParser:
    """What has a value in ``nnUNetv2_train``; the rest are switches."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("dataset")
    parser.add_argument("configuration")
    parser.add_argument("fold")
    parser.add_argument("-p", default="nnUNetPlans")
    for option in ("-tr", "-pretrained_weights", "-num_gpus", "-device"):
        parser.add_argument(option)
    return parser
