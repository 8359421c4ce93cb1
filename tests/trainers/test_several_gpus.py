"""A fold trained by several processes at once, as on several GPUs."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest
import torch.distributed as dist
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.trainers.known_labels import refuse_unknown_labels
from tests.trainers.test_data_guards import relabel

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


@pytest.mark.slow
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


class Watched(nnUNetDatasetBlosc2):
    """Knows which cases were looked at."""

    def load_case(self, identifier: str):
        self.__dict__.setdefault("seen", []).append(identifier)
        return super().load_case(identifier)


def look_for_labels(rank: int, folder: Path, meeting_point: str, found: SimpleQueue) -> None:
    dist.init_process_group("gloo", init_method=meeting_point, rank=rank, world_size=2)
    plans, dataset_json = (json.loads((folder / f"{name}.json").read_text()) for name in ("nnUNetPlans", "dataset"))
    data = Watched(str(folder / "nnUNetPlans_2d"))
    try:
        refuse_unknown_labels([data], PlansManager(plans).get_label_manager(dataset_json), lambda case: False, "mend")
    except UserError as error:
        found.put((data.seen, str(error)))
    dist.destroy_process_group()


def test_ranks_share_the_look_at_labels_and_name_what_any_of_them_found(workspace, tmp_path):
    folder = workspace.preprocessed / workspace.plain
    for case in ("case_3", "case_4"):
        relabel(folder / "nnUNetPlans_2d", case, 7)
    fork = multiprocessing.get_context("fork")
    found = fork.SimpleQueue()
    arguments = (folder, f"file://{tmp_path / 'ranks'}", found)
    ranks = [fork.Process(target=look_for_labels, args=(rank, *arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(SECONDS)
    assert [process.exitcode for process in ranks] == [0, 0]
    (first, said), (second, said_too) = found.get(), found.get()
    assert sorted([first, second]) == [["case_0", "case_2", "case_4"], ["case_1", "case_3", "case_5"]]
    assert "does not know (7; it knows 0, 1) are in 2 of 6 cases (case_3, case_4)" in said
    assert said == said_too


def test_a_rank_that_leaves_early_is_seen(run):
    status, stderr, _ = run("--last-rank-leaves-after", "1")
    assert status == 1
    assert "Connection closed by peer" in stderr
