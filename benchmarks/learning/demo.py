"""What ``nnunet-sfma demo`` prints, and how long it takes on this machine.

    python benchmarks/learning/demo.py FOLDER [-o FOLDER]

Runs the demo in FOLDER, a new one; its output goes to ``nnUNet_results/study_logs``. Writes ``demo.json``.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from record import RESULTS, machine, write_result
from study import run

from nnunet_sfma.demo.commands import progress
from nnunet_sfma.demo.run_demo import DemoFolders
from nnunet_sfma.demo.threshold import threshold_dice
from nnunet_sfma.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="to work in")
    parser.add_argument("-o", dest="output", type=Path, default=RESULTS, help="folder for the results")
    args = parser.parse_args(argv)
    if args.folder.exists():
        raise UserError(f"{args.folder} exists: name a new folder, so that the whole demo is timed.")
    seconds = run(["nnunet-sfma", "demo", "-o", str(args.folder), "-device", "cpu"], "demo")
    folders = DemoFolders(args.folder)
    validation = json.loads((folders.checkpoint.parent / "validation" / "summary.json").read_text())
    test = json.loads(folders.summary.read_text())
    result = {
        "machine": machine({}),
        "minutes": round(seconds / 60, 1),
        "epochs": epochs(folders.root / "logs" / "nnUNetv2_train.log"),
        "dice": {_case(case): case["metrics"]["1"]["Dice"] for case in test["metric_per_case"]},
        "mean": test["foreground_mean"]["Dice"],
        "threshold": threshold_dice(folders.raw),
        "validation": validation["foreground_mean"]["Dice"],
    }
    args.output.mkdir(parents=True, exist_ok=True)
    write_result(args.output / "demo.json", result)


def epochs(log: Path) -> list[str]:
    """The demo's line for each epoch of its training."""
    printed = "".join(progress(line) for line in log.read_text().splitlines())
    return [line.strip() for line in printed.splitlines() if line.strip().startswith("Epoch ")]


def _case(entry: dict) -> str:
    return Path(entry["prediction_file"]).name.split(".")[0]


if __name__ == "__main__":
    main()
