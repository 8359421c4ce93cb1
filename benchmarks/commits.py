"""Time and memory of this commit's networks over another commit's, step by step in turn.

    git worktree add ../before COMMIT
    python benchmarks/commits.py ../before [--networks sfmanet danie-l] [--sides 256] [--json FILE]

Each commit has a process of its own, which imports the package and ``benchmarks/`` of its checkout and waits while the
other one works, so that a drift of the machine meets both. In the result, for each network, mode and side:

    seconds             median and spread of a step, before and now: of the processor's time on the CPU, which nothing
                        that runs beside it takes away, of the clock on CUDA
    ratio               of now to before: median and quartiles over the rounds; below 1 is faster
    peak_memory_bytes   of tensors beyond those that were there before the first step, to the byte: as the profiler
                        sees them on the CPU, as the allocator does on CUDA
    memory_ratio        of now to before
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from time import perf_counter, process_time

import torch
from machine import describe, summary, synchronizer
from memory import cuda_peak
from options import add_options, set_up, write_result
from tqdm import tqdm, trange

HERE = Path(__file__).resolve().parents[1]
MODES = ("training", "inference")
WORKER = """
import json, sys
import torch
from commits import cost
import networks
from work import Work
name, mode, side, narrow, device, threads = json.loads(sys.argv[1])
torch.set_num_threads(threads)
torch.backends.cudnn.benchmark = True
torch.manual_seed(0)
device = torch.device(device)
step = Work(mode, 1, side).step(networks.build(name, side, narrow), device)
for line in sys.stdin:
    print("answer", json.dumps(cost(line.strip(), step, device)), flush=True)
"""


def cost(kind: str, step: Callable[[], object], device: torch.device) -> float:
    """Seconds or peak bytes of a step, in the process that does it.

    Args:
        kind: "seconds" or "bytes".
        step: to do.
        device: that it is done on.
    """
    if kind == "bytes":
        return cuda_peak(step, 0, device) if device.type == "cuda" else _cpu_bytes(step)
    clock = perf_counter if device.type == "cuda" else process_time
    wait = synchronizer(device)
    wait()
    start = clock()
    step()
    wait()
    return clock() - start


def _cpu_bytes(step: Callable[[], object]) -> int:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    changes = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = live = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        live += change.nbytes()
        peak = max(peak, live)
    return peak


class Commit:
    """The process that works with one checkout's code.

    Args:
        checkout: folder of the repository.
        arguments: name, mode, side, narrow, device and threads of the step.
    """

    def __init__(self, checkout: Path, arguments: Sequence):
        paths = os.pathsep.join([str(checkout), str(checkout / "benchmarks"), str(HERE / "benchmarks")])
        command = [sys.executable, "-c", WORKER, json.dumps(arguments)]
        environment = {**os.environ, "PYTHONPATH": paths}
        self.process = subprocess.Popen(
            command, env=environment, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: str) -> float:
        """What a step costs: "seconds" or "bytes", see :func:`cost`."""
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise SystemExit(f"The process of {self.process.args[-1]} ended: see above.")

    def __enter__(self) -> "Commit":
        return self

    def __exit__(self, *error) -> None:
        self.process.kill()
        self.process.wait()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="checkout of the other commit")
    parser.add_argument("--networks", nargs="+", default=["sfmanet", "danie-l"])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--sides", nargs="+", type=int, default=[256])
    parser.add_argument("--runs", type=int, default=9, help="timed rounds")
    add_options(parser)
    args = parser.parse_args(argv)
    device = set_up(args)
    checkouts = {"before": args.before.resolve(), "now": HERE}
    result = {
        "machine": describe(device),
        "commits": {name: _commit(checkout) for name, checkout in checkouts.items()},
        "cells": [],
    }
    for name, mode, side in (bar := tqdm(list(product(args.networks, args.modes, args.sides)), desc="Cells")):
        bar.set_postfix_str(f"{name} {mode} {side}")
        arguments = (name, mode, side, args.narrow, device.type, torch.get_num_threads())
        cell = {"network": name, "mode": mode, "side": side, **_compare(checkouts, arguments, args.runs)}
        result["cells"].append(cell)
        write_result(args, result)
        tqdm.write(_line(cell))


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _compare(checkouts: dict[str, Path], arguments: Sequence, runs: int) -> dict:
    processes = {name: Commit(checkout, arguments) for name, checkout in checkouts.items()}
    with processes["before"], processes["now"]:
        peaks = {name: process.ask("bytes") for name, process in processes.items()}
        seconds = {name: [] for name in processes}
        for _ in trange(runs, desc="  rounds", leave=False):
            for name, process in processes.items():
                seconds[name].append(process.ask("seconds"))
    return {
        "seconds": {name: summary(times) for name, times in seconds.items()},
        "ratio": summary([b / a for a, b in zip(seconds["before"], seconds["now"], strict=True)]),
        "peak_memory_bytes": peaks,
        "memory_ratio": peaks["now"] / peaks["before"],
    }


def _line(cell: dict) -> str:
    ratio = cell["ratio"]
    times = " -> ".join(f"{1e3 * entry['median']:.0f}" for entry in cell["seconds"].values())
    text = f"{cell['network']} {cell['mode']} {cell['side']}^2: {times} ms, {ratio['median']:.3f} of before"
    return text + f" ({ratio['low']:.3f} - {ratio['high']:.3f}), memory {cell['memory_ratio']:.3f}"


if __name__ == "__main__":
    main()
