"""A fold trained by several processes at once, as on several GPUs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EPOCHS, STEPS = 2, 4
SECONDS = 400
HERE = Path(__file__).parent


@pytest.fixture
def run(workspace, plan, tmp_path) -> Callable[..., tuple[int, str, list[dict]]]:
    """``run(*options)``: two ranks train fold 0, which has one validation case.

    It returns the exit status, what they wrote to stderr, and what each rank did until its end.
    """
    length = f"training.num_epochs={EPOCHS}", f"training.iterations_per_epoch={STEPS}"
    name = plan(*length, "training.precision=fp32")  # the trainers ask a GPU which one suits it
    cases = [f"case_{case}" for case in range(6)]
    splits = workspace.preprocessed / workspace.plain / "splits_final.json"
    splits.write_text(json.dumps([{"train": cases[1:], "val": cases[:1]}]))
    results = tmp_path / "results"

    def start(*options: str) -> tuple[int, str, list[dict]]:
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir()
        command = [sys.executable, HERE / "two_ranks.py", name, results, *options]
        environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
            try:
                stderr = process.communicate(timeout=SECONDS)[1]
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, stderr, [json.loads(path.read_text()) for path in sorted(results.iterdir())]

    return start


def test_killed_training_goes_on_and_validates_fewer_cases_than_ranks(run, workspace):
    assert run("--killed-after", str(STEPS + 2))[0] == -signal.SIGKILL
    status, stderr, ranks = run("--c")
    assert status == 0, stderr
    first, second = ranks
    assert first["steps"] == second["steps"] == [1] * (STEPS - 2)
    assert first["tensors"] == second["tensors"]
    status, stderr, _ = run("--val")
    assert status == 0, stderr
    assert len(list(workspace.results.rglob("fold_0/validation/case_0.nii.gz"))) == 1


def test_a_rank_that_leaves_early_is_seen(run):
    status, stderr, _ = run("--last-rank-leaves-after", "1")
    assert status == 1
    assert "Connection closed by peer" in stderr
