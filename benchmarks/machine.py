"""The machine that a benchmark ran on: what it is, what it can do at most, and how time is taken on it."""

import os
import statistics
from collections.abc import Callable, Sequence
from datetime import date
from time import perf_counter

import psutil
import torch
from tqdm import tqdm

from nnunet_sfma.evaluation.environment import hardware, versions

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**30}


def describe(device: torch.device) -> dict:
    """Processor, memory, GPU, versions and date; nothing that names the host."""
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "device": device.type,
        "cpu": hardware()["cpu"],
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "malloc": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu and gpu.name,
        "gpu_memory_gb": gpu and round(gpu.total_memory / 2**30, 1),
        "cuda": torch.version.cuda if gpu else None,
        "versions": versions(),
        "date": date.today().isoformat(),
    }


def synchronizer(device: torch.device) -> Callable[[], object]:
    """What waits until the device has finished; on the CPU nothing is left to wait for."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def ceilings(device: torch.device, dtype: torch.dtype, side: int | None = None) -> dict[str, float]:
    """Operations and bytes per second that nothing on this machine exceeds, medians of five.

    The operations are those of a product of two square matrices, the bytes those read and written by a copy that no
    cache holds. On CUDA the product of float32 matrices takes TF32, as PyTorch's convolutions do by default.

    Args:
        device: to measure.
        dtype: of the matrices.
        side: of the matrices; None is as large as this kind of device needs.
    """
    side = side or MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.ones(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else precision)
    try:
        works = {"matmul": lambda: a @ b, "copy": lambda: target.copy_(source)}
        seconds = interleaved(works, 5, synchronizer(device))
    finally:
        torch.set_float32_matmul_precision(precision)
    return {
        "operations_per_second": 2 * side**3 / statistics.median(seconds["matmul"]),
        "bytes_per_second": 2 * source.nbytes / statistics.median(seconds["copy"]),
    }


def interleaved(
    functions: dict[str, Callable[[], object]], runs: int, synchronize: Callable[[], object], label: str | None = None
) -> dict[str, list[float]]:
    """Seconds of each run, taken in rounds A B C A B C ..., so that a drift of the machine meets all alike.

    Args:
        functions: what to time, by name.
        runs: rounds after the one that warms up.
        synchronize: waits until the device has finished.
        label: of the progress bar; none is shown without.
    """
    seconds = {name: [] for name in functions}
    rounds = [(i, name) for i in range(runs + 1) for name in functions]
    for i, name in tqdm(rounds, desc=label, leave=False, disable=label is None):
        synchronize()
        start = perf_counter()
        functions[name]()
        synchronize()
        if i > 0:
            seconds[name].append(perf_counter() - start)
    return seconds


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median and spread: the quartiles from four runs on, the extremes of fewer."""
    low, high = min(times), max(times)
    if len(times) >= 4:
        low, _, high = statistics.quantiles(times, n=4)
    return {"median": statistics.median(times), "low": low, "high": high, "runs": len(times)}
