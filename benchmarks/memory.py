"""Peak memory of a step beyond the idle process that holds PyTorch and the network.

What counts is images, activations, workspaces and, in training, gradients and the optimiser's two moments, which are
there before the step; the network's own weights do not count.

On CUDA it is what PyTorch's allocator handed out at most. On the CPU it is the growth of resident memory, without the
libraries' code, in a process made for one step. The peak is the kernel's (``VmHWM``, reset before the step) where it
has one: ``ru_maxrss``, taken elsewhere, is inherited from the parent on Linux and would show the parent's peak. The
process may take nine tenths of what memory is free, so that it fails instead of the machine.
"""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import networks
import psutil
import torch
from work import Work

STATUS = Path("/proc/self/status")
PRELOADED = ["torch", "timm", "nnunetv2.training.loss.compound_losses", "nnunetv2.inference.predict_from_raw_data"]
"""What each process would take seconds to import; it is forked from a server that has it."""

FREE_SHARE = 0.9
LONGEST_STEP = 300
"""Seconds, with building the network. A step may hang: some convolutions never end in some versions of oneDNN."""


def cuda_peak(step: Callable[[], object], own_bytes: int, device: torch.device) -> int:
    """Bytes of a step that was run before: the first one also searches for the fastest convolutions.

    Args:
        step: to run.
        own_bytes: of what its preparation allocated and keeps, the network excepted.
        device: a CUDA device.
    """
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return torch.cuda.max_memory_allocated(device) - before + own_bytes


def cpu_peak(name: str, work: Work, narrow: bool) -> int:
    """Bytes of a step in a process of its own.

    Raises:
        RuntimeError: with the reason, if the step fails, needs more memory than is free, or does not end.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, name, work, narrow, torch.get_num_threads()))
    process.start()
    sender.close()
    try:
        answer = receiver.recv() if receiver.poll(LONGEST_STEP) else f"no end after {LONGEST_STEP} s"
    except EOFError:
        answer = "the process was killed, probably for want of memory"
    process.kill()
    process.join()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


def _measure(sender: Connection, name: str, work: Work, narrow: bool, threads: int) -> None:
    try:
        sender.send(_growth(name, work, narrow, threads))
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def _growth(name: str, work: Work, narrow: bool, threads: int) -> int:
    torch.set_num_threads(threads)
    cpu = torch.device("cpu")
    network = work.place(networks.build(name, work.side, narrow), cpu)
    _limit_memory()
    _reset_peak()
    idle, files = psutil.Process().memory_info().rss, _files()
    work.step(network, cpu, networks.channels(name))()
    return max(0, _peak() - idle - (_files() - files))


def _limit_memory() -> None:
    if STATUS.exists():
        limit = _status("VmData") + int(FREE_SHARE * psutil.virtual_memory().available)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _reset_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def _peak() -> int:
    if STATUS.exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _files() -> int:
    """Resident pages of files: the step's first use of a library's code is none of its memory."""
    return _status("RssFile") if STATUS.exists() else 0


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
