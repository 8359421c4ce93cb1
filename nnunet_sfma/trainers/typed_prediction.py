"""The ``nnUNetv2_predict`` that a user typed: its device is looked for before the images are read."""

import sys
from pathlib import Path

from nnunet_sfma.devices import refuse_missing_device
from nnunet_sfma.standard_argparse import argparse

PROGRAMS = ("nnUNetv2_predict", "nnUNetv2_predict_from_modelfolder")


def refuse_missing_device_of_prediction() -> None:
    """Look for the device of the ``nnUNetv2_predict`` under way; nnU-Net would end in a stack trace.

    Raises:
        UserError: if there is none of that kind.
    """
    if Path(sys.argv[0]).stem not in PROGRAMS:
        return
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-device", default="cuda")
    refuse_missing_device(parser.parse_known_args(sys.argv[1:])[0].device)
