"""A network's step that may fail: the others go on, and the reason is kept."""

import gc
from collections.abc import Callable
from functools import cache, partial
from time import monotonic, perf_counter

import networks
import roofline
import torch
from memory import cpu_peak, cuda_peak
from torch import nn
from work import Work

OUT_OF_TIME = "the --minutes were over"


class Attempt:
    """A step of a network, prepared when it is called first and given up once it fails.

    Args:
        name: of the network.
        work: to do.
        device: to do it on.
        narrow: see :func:`networks.build`.
        deadline: by :func:`time.monotonic`; nothing is begun after it, but what has begun is finished.
        counting: count an eager step, the first one.

    Attributes:
        reason: why it was given up, or None.
        count: of the eager step, if it was counted.
        first_call_seconds: of the first compiled step.
    """

    def __init__(
        self,
        name: str,
        work: Work,
        device: torch.device,
        narrow: bool = False,
        deadline: float = float("inf"),
        counting: bool = False,
    ):
        self.name, self.work, self.device, self.narrow = name, work, device, narrow
        self.deadline, self.counting = deadline, counting
        self.reason: str | None = None
        self.count: roofline.Count | None = None
        self.first_call_seconds: float | None = None
        self._step: Callable[[], object] | None = None
        self._own_bytes = 0

    def __call__(self) -> None:
        """Do one step, unless one has failed."""
        self._unless_failed(self._first_step if self._step is None else self._step)

    def peak_memory(self) -> int | None:
        """See :mod:`memory`; on CUDA of the step that was run before, on the CPU of an eager one."""
        if self.device.type == "cuda":
            return self._unless_failed(lambda: cuda_peak(self._step, self._own_bytes, self.device))
        return self._unless_failed(partial(cpu_peak, self.name, self.work, self.narrow))

    def graph_breaks(self) -> list[str] | None:
        """Why torch.compile cuts the forward pass, once for each cut; all that was compiled before is forgotten."""
        return self._unless_failed(self._explain)

    @property
    def network(self) -> nn.Module:
        return network(self.name, self.work.side, self.narrow, self.device)

    def _first_step(self) -> None:
        compiled = self.work.layout == "compiled"
        if self.counting:
            step = self._prepare(compiled=False)
            self.count = roofline.count(step)
            self._step = None if compiled else step
        if self._step is None:
            step = self._prepare(compiled)
            start = perf_counter()
            step()
            self.first_call_seconds = perf_counter() - start if compiled else None
            self._step = step

    def _prepare(self, compiled: bool) -> Callable[[], object]:
        network = self.network
        network.zero_grad(set_to_none=True)  # what a failed attempt with it left behind
        before = self._allocated()
        step = self.work.step(network, self.device, networks.channels(self.name), compiled)
        self._own_bytes = self._allocated() - before
        return step

    def _allocated(self) -> int:
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else 0

    def _explain(self) -> list[str]:
        images = self.work.images(self.device, networks.channels(self.name))
        with torch.set_grad_enabled(self.work.mode == "training"), self.work.autocast(self.device):
            explained = torch._dynamo.explain(self.work.place(self.network, self.device))(images)
        return [str(cut.reason) for cut in explained.break_reasons]

    def _unless_failed(self, function: Callable[[], object]):
        if self.reason is None and self._step is None and monotonic() > self.deadline:
            self.reason = OUT_OF_TIME
        if self.reason is not None:
            return None
        try:
            return function()
        except Exception as error:  # whatever it is, it is the result of this attempt, and the others go on
            self.reason = _one_line(error)
            self._step = None
        gc.collect()  # here and not in the handler, where the error still holds the tensors of the step
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


@cache
def network(name: str, side: int, narrow: bool, device: torch.device) -> nn.Module:
    """The one network of this name and size, kept for the next attempt."""
    return networks.build(name, side, narrow).to(device)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
