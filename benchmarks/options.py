"""What the benchmarks of networks share on the command line."""

import argparse
import json
from pathlib import Path

import torch

from nnunet_sfma.devices import refuse_missing_device
from nnunet_sfma.files import replace_text


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU")
    parser.add_argument("--narrow", action="store_true", help="a quarter of the width, to try the benchmark out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result")


def set_up(args: argparse.Namespace) -> torch.device:
    """The device, with PyTorch set as nnU-Net sets it.

    Raises:
        UserError: if there is none of that kind.
    """
    refuse_missing_device(args.device, "--device")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    return torch.device(args.device)


def write_result(args: argparse.Namespace, result: dict) -> None:
    if args.json:
        replace_text(args.json, json.dumps(result, indent=1) + "\n")
