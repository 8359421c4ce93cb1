"""How time and memory grow with the side of the images, the batch and the number of slices.

    python benchmarks/growth.py [--json FILE] [--figure FILE.png] [--device cpu|cuda]

Five curves of SFMANet, DANIE-L and the classic U-Net: inference and a training step of one image against the side (in
training to 512), a training step against the batch at 128 x 128, and the prediction of a volume of 128 x 128 against
the number of slices, by nnU-Net's predictor and in batches. The first two are also those of the axial attention of
SFMANet's finest stage alone: its memory grows with the pixels, as the square of the side, its time with the cube.

The exponents are slopes of a line through the three largest points, both axes logarithmic. In fp32, eager; the
prediction of volumes on CUDA in fp16, as nnU-Net has it. Memory: see memory.py.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from attempt import Attempt, network
from machine import describe, interleaved, summary, synchronizer
from networks import NETWORKS, UNET
from options import add_options, set_up, write_result
from tqdm import tqdm
from volume import PREDICTORS, Volume
from work import Work

SIDE = 128
LARGEST_TRAINED = 512
FITTED_POINTS = 3


@dataclass(frozen=True)
class Curves:
    """Curves against one quantity: what to do at each of its values."""

    title: str
    axis: str
    works: dict[int, Work]
    with_attention: bool = False


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    device = set_up(args)
    curves = [curve for family in _families(args) for curve in _measure(family, args, device)]
    for curve in curves:
        print(
            f"{curve['title']:<28} {curve['network']:<16} time ~ {curve['axis']}^{_number(curve['time_exponent'])}, "
            f"memory ~ {curve['axis']}^{_number(curve['memory_exponent'])}"
        )
    write_result(args, {"machine": describe(device), "settings": {"narrow": args.narrow}, "curves": curves})
    if args.figure:
        _draw(curves, args.figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["sfmanet", "danie-l", UNET])
    parser.add_argument("--sides", nargs="*", type=int, default=[64, 128, 256, 512, 1024])
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--slices", nargs="*", type=int, help="default: 2 4 8 on the CPU, 8 32 128 on CUDA")
    parser.add_argument("--runs", type=int, default=3, help="timed rounds of each point")
    add_options(parser)
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the curves")
    return parser


def _families(args: argparse.Namespace) -> Iterator[Curves]:
    trained = [side for side in args.sides if side <= LARGEST_TRAINED]
    slices = args.slices if args.slices is not None else [8, 32, 128] if args.device == "cuda" else [2, 4, 8]
    side = min(SIDE, max(args.sides, default=SIDE))
    yield Curves("inference", "side", {n: Work("inference", 1, n) for n in args.sides}, with_attention=True)
    yield Curves("training", "side", {n: Work("training", 1, n) for n in trained}, with_attention=True)
    yield Curves("training", "batch", {n: Work("training", n, side) for n in args.batches})
    for name in PREDICTORS:
        works = {n: Volume("inference", n, side, predictor=name) for n in slices}
        yield Curves(f"prediction, {name}", "slices", works)


def _measure(family: Curves, args: argparse.Namespace, device: torch.device) -> list[dict]:
    names = [*args.networks, *(["axial-attention"] if family.with_attention else [])]
    curves = {name: {"x": [], "seconds": [], "peak_memory_bytes": [], "not_run": {}} for name in names}
    for x, work in (bar := tqdm(family.works.items(), desc=f"{family.title} against {family.axis}")):
        bar.set_postfix_str(str(x))
        attempts = {name: Attempt(name, work, device, args.narrow) for name in names}
        peaks = {name: attempt.peak_memory() for name, attempt in attempts.items() if device.type == "cpu"}
        seconds = interleaved(attempts, args.runs, synchronizer(device), label="  rounds")
        for name, attempt in attempts.items():
            peak = peaks[name] if device.type == "cpu" else attempt.peak_memory()
            if attempt.reason is not None:
                curves[name]["not_run"][x] = attempt.reason
                continue
            curves[name]["x"].append(x)
            curves[name]["seconds"].append(summary(seconds[name]))
            curves[name]["peak_memory_bytes"].append(peak)
        network.cache_clear()
    return [
        {
            "title": family.title,
            "axis": family.axis,
            "network": name,
            **curve,
            "time_exponent": _exponent(curve["x"], [times["median"] for times in curve["seconds"]]),
            "memory_exponent": _exponent(curve["x"], curve["peak_memory_bytes"]),
        }
        for name, curve in curves.items()
    ]


def _exponent(x: Sequence[float], y: Sequence[float]) -> float | None:
    points = [(a, b) for a, b in zip(x, y, strict=True) if b > 0][-FITTED_POINTS:]
    return float(np.polyfit(*np.log(np.array(points, float)).T, 1)[0]) if len(points) > 1 else None


def _number(exponent: float | None) -> str:
    return "?" if exponent is None else f"{exponent:.2f}"


def _draw(curves: Sequence[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys((curve["title"], curve["axis"]) for curve in curves))
    figure, axes = plt.subplots(2, len(panels), figsize=(3.4 * len(panels), 6), squeeze=False, layout="constrained")
    for curve in curves:
        time, memory = axes[:, panels.index((curve["title"], curve["axis"]))]
        times = [times["median"] for times in curve["seconds"]]
        megabytes = np.array(curve["peak_memory_bytes"]) / 2**20
        for panel, y, exponent in ((time, times, "time_exponent"), (memory, megabytes, "memory_exponent")):
            label = f"{curve['network']} ({_number(curve[exponent])})"
            panel.loglog(curve["x"], y, "o-", markersize=3, label=label)
    for column, (title, axis) in enumerate(panels):
        for panel, unit in zip(axes[:, column], ("seconds", "peak MB"), strict=True):
            panel.set(title=title, xlabel=axis, ylabel=unit)
            values = sorted(
                {x for curve in curves if (curve["title"], curve["axis"]) == (title, axis) for x in curve["x"]}
            )
            panel.set_xticks(values, values)
            panel.minorticks_off()
            panel.grid(alpha=0.3)
            panel.legend(fontsize=7, title="exponent", title_fontsize=7)
    figure.savefig(path, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    main()
