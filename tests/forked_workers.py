"""nnU-Net's worker processes, forked from a server that has imported nnU-Net once.

nnU-Net spawns a pool for every step, and each worker imports PyTorch and nnU-Net for seconds before it works for
milliseconds. A forked worker is a process of its own as well, with nothing of its parent's but what it is sent.
"""

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess

import pytest

IMPORTED_ONCE = [
    "nnunetv2.experiment_planning.plan_and_preprocess_api",
    "nnunetv2.inference.predict_from_raw_data",
    "nnunetv2.run.run_training",
]


class _Process(ForkServerProcess):
    """It has its parent's environment, as a spawned one has: the server keeps the one that it was started in."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._environment = dict(os.environ)

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        super().run()


class _Context(ForkServerContext):
    Process = _Process


def fork_workers(patch: pytest.MonkeyPatch) -> None:
    """Have this process' pools of spawned workers fork them."""
    forked, get_context = _Context(), multiprocessing.get_context
    forked.set_forkserver_preload(IMPORTED_ONCE)
    # now, as the signals are handled here: a worker whose server was started with SIGTERM ignored cannot be terminated
    forkserver.ensure_running()

    def get_forked(method: str | None = None) -> BaseContext:
        return forked if method == "spawn" else get_context(method)

    patch.setattr(multiprocessing, "get_context", get_forked)
