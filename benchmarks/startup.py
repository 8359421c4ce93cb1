"""What the start-up line costs every Python of the environment, and how long the shortest commands take.

Two environments see all packages of this one, by links; only one has the start-up line. Whole processes are timed in
turn, so that a drift of the machine meets all alike; the cost of the line is the median of the pairs' differences.
"""

import argparse
import os
import subprocess
import sysconfig
import tempfile
import venv
from functools import partial
from pathlib import Path

import torch
from machine import interleaved, summary

from nnunet_sfma.nnunet_discovery import VARIABLE

START_UP_LINE = "nnunet_sfma_discovery.pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, default=40, help="rounds of whole processes")


def measure(args: argparse.Namespace, device: torch.device) -> dict:
    """Seconds of each kind of process, and what the line adds to the first."""
    with tempfile.TemporaryDirectory() as folder:
        with_line, without_line = (_environment(Path(folder, name), name == "with") for name in ("with", "without"))
        command = [with_line, "-m", "nnunet_sfma.cli"]
        processes = {
            "python -c pass, with the line": [with_line, "-c", "pass"],
            "python -c pass, without": [without_line, "-c", "pass"],
            "nnunet-sfma --help": [*command, "--help"],
            "nnunet-sfma --version": [*command, "--version"],
        }
        seconds = interleaved(
            {name: partial(_run, process) for name, process in processes.items()}, args.pairs, lambda: None, "Processes"
        )
    differences = [a - b for a, b in zip(*list(seconds.values())[:2], strict=True)]
    return {
        "seconds": {name: summary(times) for name, times in seconds.items()},
        "start_up_line": summary(differences),
    }


def _environment(folder: Path, with_line: bool) -> str:
    """The Python of a new environment with links to this one's packages."""
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if (with_line or entry.name != START_UP_LINE) and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    if (packages / START_UP_LINE).exists() != with_line:
        raise SystemExit(f"There is no {START_UP_LINE} in {sysconfig.get_path('purelib')}: install this package first.")
    return str(folder / "bin" / "python")


def _run(process: list[str]) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "PYTHONPATH")}
    subprocess.run(process, env=inherited, cwd=os.sep, check=True, stdout=subprocess.DEVNULL)
