"""How many threads a training takes on a CPU."""

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args

from tests.trainers.conftest import TRAINER


@pytest.fixture
def threads_with(plan, monkeypatch: pytest.MonkeyPatch):
    """``threads_with(value)``: PyTorch's threads after nnU-Net, which set three, made a trainer."""
    before = torch.get_num_threads()

    def make(value: str) -> int:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        torch.set_num_threads(3)
        get_trainer_from_args("1", "2d", 0, TRAINER, plan(), device=torch.device("cpu"))
        return torch.get_num_threads()

    yield make
    torch.set_num_threads(before)


@pytest.mark.parametrize(("value", "threads"), [("2", 2), ("1", 1), ("2,1", 2), ("", 3), ("0", 3), ("many", 3)])
def test_omp_num_threads_is_heeded(threads_with, value, threads):
    assert threads_with(value) == threads
