"""How long ``nnunet-sfma evaluate`` takes for a data set of the size of ISLES 2022, with all metrics.

    python benchmarks/evaluation_speed.py [--cases 250] [-np 2] [-o benchmarks/results/evaluation_speed.json]

Each case has 112 x 112 x 73 voxels of 2 mm: up to 20 lesions, a prediction that is the same shifted by a voxel, and 50
scattered false positives. The files are made first, which does not count.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import SimpleITK as sitk  # noqa: N813
from tqdm import trange

from nnunet_sfma.evaluation.environment import hardware, versions
from nnunet_sfma.files import replace_text

SHAPE = (73, 112, 112)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=250)
    parser.add_argument("-np", dest="processes", default="2")
    parser.add_argument("-o", dest="output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _write_cases(Path(folder), args.cases)
        first, again = (_seconds(Path(folder), args.processes) for _ in range(2))
    result = {
        "cases": args.cases,
        "shape": SHAPE,
        "processes": int(args.processes),
        "seconds": round(first, 1),
        "seconds_when_nothing_changed": round(again, 1),
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))
    if args.output:
        replace_text(args.output, json.dumps(result, indent=2) + "\n")


def _seconds(folder: Path, processes: str) -> float:
    command = [sys.executable, "-m", "nnunet_sfma.cli", "evaluate", "-np", processes]
    start = perf_counter()
    subprocess.run([*command, "-i", str(folder / "pred"), "-l", str(folder / "labels")], check=True)
    return perf_counter() - start


def _write_cases(folder: Path, cases: int) -> None:
    for name in ("pred", "labels"):
        (folder / name).mkdir()
    description = {"channel_names": {"0": "DWI"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (folder / "pred" / "dataset.json").write_text(json.dumps(description))
    for case in trange(cases, desc="Making cases", disable=None):
        rng = np.random.default_rng(case)
        label = _lesions(rng)
        prediction = np.roll(label, 1, axis=2)
        prediction[tuple(rng.integers(0, SHAPE, (50, 3)).T)] = 1
        for name, array in (("pred", prediction), ("labels", label)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((2.0, 2.0, 2.0))
            sitk.WriteImage(image, str(folder / name / f"case_{case:03d}.nii.gz"))


def _lesions(rng: np.random.Generator) -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    z, y, x = np.ogrid[tuple(slice(side) for side in SHAPE)]
    for _ in range(rng.integers(1, 21)):
        centre, radius = rng.uniform(0.2, 0.8, 3) * SHAPE, rng.uniform(1, 9)
        label[(z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2] = 1
    return label


if __name__ == "__main__":
    main()
