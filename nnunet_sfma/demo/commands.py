"""Runs a command as a user would type it: printed, logged, with its progress in short lines."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections import deque
from pathlib import Path
from time import monotonic

from nnunet_sfma.errors import UserError

# Threads that spin while they wait starve nnU-Net's augmentation workers where there are few cores: measured on two,
# training steps took up to ten times as long.
QUIET_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
OF_AN_EPOCH = re.compile(r": (Epoch \d+|Training Dice \S+|Pseudo dice .*|Epoch time: .*)$")
OF_OTHER_STEPS = re.compile(r"(?:^|: )([Pp]redicting .*|Mean Validation Dice: .*|Wrote .*)$")


def print_and_run(command: list[str], environment: dict[str, str], folder: Path) -> None:
    """Print a command, run it with its output going to ``folder/logs``, and show the lines that tell of progress.

    Args:
        command: name of an installed command and its arguments.
        environment: variables to set besides the present ones.
        folder: the demo's folder.

    Raises:
        UserError: if it fails; with the last lines of its log.
    """
    log = folder / "logs" / f"{'-'.join(command[:2] if command[0] == 'nnunet-sfma' else command[:1])}.log"
    log.parent.mkdir(exist_ok=True)
    print(f"\n$ {shlex.join(command)}", flush=True)
    start = monotonic()
    executable = _find(command[0])
    last_lines: deque[str] = deque(maxlen=15)
    with (
        log.open("w", buffering=1) as file,
        subprocess.Popen(
            [executable, *command[1:]],
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1", **QUIET_THREADS},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        for line in process.stdout:
            file.write(line)
            last_lines.append(line)
            print(progress(line), end="", flush=True)
    if process.returncode:
        print("".join(last_lines))
        raise UserError(f"{command[0]} failed with exit code {process.returncode}; its whole output is in {log}.")
    print(f"  done in {monotonic() - start:.0f} s (log: {log})", flush=True)


def _find(command: str) -> str:
    """The command of this very installation, wherever pip put it; else the one on the path."""
    places = [sysconfig.get_path("scripts"), str(Path(sys.argv[0]).parent), os.environ.get("PATH", "")]
    found = shutil.which(command, path=os.pathsep.join(places))
    if found is None:
        raise UserError(
            f"The command {command} is not found in {places[0]}: is nnunetv2 installed in this environment?"
        )
    return found


def progress(line: str) -> str:
    """What to show of a line of nnU-Net's output: an epoch's lines joined to one, those of other steps as they are.

    Returns:
        Text to print without adding a line break; empty for a line that says nothing of progress.
    """
    line = re.sub(r"np\.float\d+\(([^)]*)\)", r"\1", line.rstrip())
    epoch, other = OF_AN_EPOCH.search(line), OF_OTHER_STEPS.search(line)
    if epoch:
        return f"  {epoch[1]}" + ("\n" if epoch[1].startswith("Epoch time") else "")
    return f"  {other[1]}\n" if other else ""
