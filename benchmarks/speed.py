"""Time, memory and share of the roofline of this package's networks beside references and well-known U-Nets.

    python benchmarks/speed.py [--json FILE] [--table FILE] [--device cpu|cuda] [--minutes N]
    python benchmarks/speed.py --networks sfmanet unet --modes inference --sides 256 512 --layouts eager compiled

Within a cell (mode, batch, side, precision, layout) the networks are timed in turn. Without a flag for an axis the CPU
takes three blocks that two cores finish in 20 minutes: batch 1 at 256 x 256; inference at 512 x 512 in fp32; a training
step of batch 16 in fp32 for three networks, timed once. CUDA takes everything, compiled last. With such a flag the
cells are all combinations of what is given and, for the other axes, of both modes, batch 1, 256 x 256, fp32 and eager.

A cell or a network that does not run (out of memory, no compiler, out of time) is recorded with the reason. In the
result, for each cell and network:

    seconds                     median and spread of a step
    ratio_to_unet               to the classic U-Net in the same cell, median over the rounds
    ratio_to_eager_unet         to the classic U-Net, eager, else in the same cell, from the medians
    peak_memory_bytes           see memory.py; on the CPU that of the eager step, with compiled ones null
    multiply_adds, moved_bytes, seconds_at_roof, share_of_roof      of the eager step, see roofline.py
    graph_breaks, first_call_seconds      with compiled ones: why the forward pass is cut, and the time of compilation
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from statistics import median
from time import monotonic

import torch
from attempt import OUT_OF_TIME, Attempt
from machine import PRECISIONS, ceilings, describe, interleaved, summary, synchronizer
from networks import NETWORKS, UNET
from options import add_options, set_up, write_result
from roofline import Count
from tqdm import tqdm
from work import Work

from nnunet_sfma.files import replace_text

LAYOUTS = ("eager", "channels_last", "compiled")
# what changes last comes first: compiled cells last, the largest images before them
AXES = {
    "layouts": ("eager",),
    "sides": (256,),
    "precisions": ("fp32",),
    "batches": (1,),
    "modes": ("inference", "training"),
}
CHOICES = {"layouts": LAYOUTS, "precisions": tuple(PRECISIONS), "modes": AXES["modes"]}
BLOCKS = {
    "cpu": (
        {"precisions": ("fp32", "bf16"), "layouts": ("eager", "channels_last")},
        {"modes": ("inference",), "sides": (512,)},
        {"modes": ("training",), "batches": (16,), "networks": ("sfmanet", "plain-sfmanet", UNET), "runs": 1},
    ),
    "cuda": ({"batches": (16, 1), "sides": (256, 512), "precisions": ("bf16", "fp16", "fp32"), "layouts": LAYOUTS},),
}
RUNS = {"cpu": 3, "cuda": 7}
MINUTES = {"cpu": 20.0, "cuda": 8.0}


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    device = set_up(args)
    deadline = monotonic() + 60 * (MINUTES[device.type] if args.minutes is None else args.minutes)
    cells = list(_cells(args, device))
    dtypes = {torch.float32, *(PRECISIONS[work.precision] for work, *_ in cells)}
    roofs = {dtype: ceilings(device, dtype, 256 if args.narrow else None) for dtype in dtypes}
    bench = _Bench(device, args.narrow, deadline, roofs)
    result = {
        "machine": describe(device),
        "ceilings": {str(dtype).removeprefix("torch."): roof for dtype, roof in roofs.items()},
        "settings": {"narrow": args.narrow},
        "cells": [],
    }
    for work, names, runs in (bar := tqdm(cells, desc="Cells")):
        bar.set_postfix_str(str(work))
        result["cells"].append({**asdict(work), **bench.measure(work, names, runs)})
        _add_ratios_to_eager(result["cells"])
        write_result(args, result)  # after each cell: a machine may be taken away
        if args.table:
            replace_text(args.table, _table(result["cells"]))
    print(_table(result["cells"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), help="default: all")
    for axis in reversed(AXES):
        kind = int if axis in ("batches", "sides") else str
        parser.add_argument(f"--{axis}", nargs="+", type=kind, choices=CHOICES.get(axis))
    parser.add_argument("--runs", type=int, help="timed rounds of each cell; default: 3 on the CPU, 7 on CUDA")
    parser.add_argument("--minutes", type=float, help="begin nothing after; default: 20 on the CPU, 8 on CUDA")
    add_options(parser)
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the Markdown table, too")
    return parser


def _cells(args: argparse.Namespace, device: torch.device) -> Iterator[tuple[Work, list[str], int]]:
    given = {axis: getattr(args, axis) for axis in AXES if getattr(args, axis)}
    for block in [given] if given else BLOCKS[device.type]:
        names = [name for name in args.networks or NETWORKS if name in block.get("networks", NETWORKS)]
        runs = args.runs or block.get("runs", RUNS[device.type])
        if names:
            for layout, side, precision, batch, mode in product(*({**AXES, **block}[axis] for axis in AXES)):
                yield Work(mode, batch, side, precision, layout), names, runs


class _Bench:
    """Measures cells, and remembers what does not change from cell to cell."""

    def __init__(self, device: torch.device, narrow: bool, deadline: float, roofs: dict):
        self.device, self.narrow, self.deadline, self.roofs = device, narrow, deadline, roofs
        self.counts: dict[tuple[str, Work], Count] = {}
        self.graph_breaks: dict[tuple[str, str], list[str]] = {}

    def measure(self, work: Work, names: Sequence[str], runs: int) -> dict:
        """The results of a cell by network, or why it was not run."""
        if monotonic() > self.deadline:
            return {"not_run": OUT_OF_TIME}
        eager = replace(work, layout="eager")
        attempts = {
            name: Attempt(name, work, self.device, self.narrow, self.deadline, (name, eager) not in self.counts)
            for name in names
        }
        # before the rounds: on the CPU a step that does not fit must not be run here, and a look for graph breaks
        # forgets what was compiled
        compiled, on_cuda = work.layout == "compiled", self.device.type == "cuda"
        if compiled:
            torch._dynamo.reset()  # it compiles each function for a few networks and shapes only
        found = {name: {} for name in names}
        for name, attempt in tqdm(attempts.items(), desc="  before", leave=False):
            if compiled:
                found[name]["graph_breaks"] = self._graph_breaks(attempt)
            elif not on_cuda:
                found[name]["peak_memory_bytes"] = attempt.peak_memory()
        seconds = interleaved(attempts, runs, synchronizer(self.device), label="  rounds")
        for name, attempt in attempts.items():
            if on_cuda:
                found[name]["peak_memory_bytes"] = attempt.peak_memory()
            if attempt.count:
                self.counts[name, eager] = attempt.count
        unet = seconds[UNET] if UNET in attempts and attempts[UNET].reason is None else None
        for name, attempt in attempts.items():
            if attempt.reason is None:
                found[name] |= self._entry(attempt, seconds[name], unet, self.counts[name, eager])
            else:
                found[name] = {"not_run": attempt.reason}
        return {"networks": found}

    def _graph_breaks(self, attempt: Attempt) -> list[str] | None:
        """Found once for each mode: to look for them takes as long as half a compilation."""
        key = (attempt.name, attempt.work.mode)
        if key not in self.graph_breaks:
            self.graph_breaks[key] = attempt.graph_breaks()
        return self.graph_breaks[key]

    def _entry(self, attempt: Attempt, seconds: list[float], unet: list[float] | None, count: Count) -> dict:
        times, at_roof = summary(seconds), count.seconds_at_roof(self.roofs)
        compilation = {"first_call_seconds": attempt.first_call_seconds} if attempt.first_call_seconds else {}
        return {
            "seconds": times,
            "images_per_second": attempt.work.batch / times["median"],
            "ratio_to_unet": median(a / b for a, b in zip(seconds, unet, strict=True)) if unet else None,
            "parameters": sum(parameter.numel() for parameter in attempt.network.parameters()),
            "multiply_adds": count.multiply_adds,
            "moved_bytes": count.bytes,
            "seconds_at_roof": at_roof,
            "share_of_roof": at_roof / times["median"],
            **compilation,
        }


def _add_ratios_to_eager(results: list[dict]) -> None:
    def place(cell: dict) -> tuple:
        return tuple(cell[axis] for axis in ("mode", "batch", "side", "precision"))

    unets = {
        place(cell): cell["networks"][UNET]["seconds"]["median"]
        for cell in results
        if cell["layout"] == "eager" and "seconds" in cell.get("networks", {}).get(UNET, {})
    }
    for cell in results:
        for entry in cell.get("networks", {}).values():
            if "seconds" in entry:
                unet = unets.get(place(cell))
                entry["ratio_to_eager_unet"] = unet and entry["seconds"]["median"] / unet


def _table(results: list[dict]) -> str:
    header = (
        "| network | ms | from - to | images/s | U-Nets | eager U-Nets | peak MB | GMAC | GB moved | share of roof |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    )
    text = ""
    for cell in results:
        text += f"\n**{Work(*(cell[axis] for axis in Work.__dataclass_fields__))}**\n\n"
        if "not_run" in cell:
            text += f"not run: {cell['not_run']}\n"
            continue
        text += header + "".join(_row(name, entry) for name, entry in cell["networks"].items())
    return text.lstrip()


def _row(name: str, entry: dict) -> str:
    if "not_run" in entry:
        return f"| {name} | not run: {entry['not_run']} |\n"
    times = entry["seconds"]
    peak = entry.get("peak_memory_bytes")
    numbers = [
        f"{1e3 * times['median']:.2f}",
        f"{1e3 * times['low']:.2f} - {1e3 * times['high']:.2f}",
        f"{entry['images_per_second']:.2f}",
        *(f"{ratio:.2f}" if ratio else "" for ratio in (entry["ratio_to_unet"], entry["ratio_to_eager_unet"])),
        "" if peak is None else f"{peak / 2**20:.0f}",
        f"{entry['multiply_adds'] / 1e9:.2f}",
        f"{entry['moved_bytes'] / 1e9:.2f}",
        f"{100 * entry['share_of_roof']:.0f} %",
    ]
    return f"| {name} | {' | '.join(numbers)} |\n"


if __name__ == "__main__":
    main()
