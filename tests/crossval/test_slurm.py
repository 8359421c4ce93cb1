"""Submission to a real SLURM; ``single_node_slurm.sh`` starts one."""

import json
import os
import re
import shutil
import subprocess

import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.crossval.slurm import Task, read_minutes
from nnunet_sfma.errors import UserError
from tests.conftest import Workspace
from tests.crossval.conftest import (
    CROSSVAL,
    fold_log,
    has_line,
    model_folder,
    started_commands,
    take_the_place_of_the_validation,
    wait_for,
    write_folds,
)
from tests.trainers.conftest import TRAINER, read_checkpoint, train  # noqa: F401

# one cluster, whose queue each test finds and leaves empty
pytestmark = pytest.mark.xdist_group("slurm")
needs_slurm = pytest.mark.skipif(
    "NNUNET_SFMA_TEST_SLURM" not in os.environ,
    reason="NNUNET_SFMA_TEST_SLURM is not set (start a cluster with tests/crossval/single_node_slurm.sh)",
)
SUBMIT = [*CROSSVAL, "--executor", "slurm", "--gpus", "0", "--time", "0:20:00", "--mem", "1"]
EPOCHS = 12


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def queue() -> dict[str, str]:
    lines = slurm("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
    return dict(line.split() for line in lines)


def rows(capsys) -> list[dict]:
    capsys.readouterr()
    main(["status", "-d", "1", "--json"])
    return json.loads(capsys.readouterr().out)


def job_ids(printed: str) -> list[str]:
    return re.findall(r"job (\d+(?:_\d+)?)", printed)


def run_now(job: str) -> None:
    """A requeued job waits two minutes by SLURM's own rule."""
    wait_for(lambda: queue().get(job) == "PENDING", 60)
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")


@pytest.fixture
def long_folds(workspace: Workspace, plan) -> Workspace:
    plan(f"training.num_epochs={EPOCHS}")
    write_folds(workspace)
    yield workspace
    if "NNUNET_SFMA_TEST_SLURM" in os.environ:
        slurm("scancel", "--user=root", "--name=nnunet-sfma-1")
        wait_for(lambda: not queue(), 60)


@pytest.mark.slow
@needs_slurm
def test_requeued_tasks_resume_and_the_last_job_brings_all_together(long_folds, capsys):
    """Fold 0 is requeued by the administrator, fold 1 gets the signal that announces its time limit."""
    main(SUBMIT)
    first, second, last = job_ids(capsys.readouterr().out)
    assert queue()[last] == "PENDING"
    checkpoints = [model_folder(long_folds) / f"fold_{fold}" / "checkpoint_latest.pth" for fold in (0, 1)]
    wait_for(lambda: all(path.exists() for path in checkpoints))
    assert {row["where"].split(" on ")[0] for row in rows(capsys)} == {f"job {first}", f"job {second}"}
    slurm("scancel", "--signal=USR2", second)
    slurm("scontrol", "requeue", first)
    with pytest.raises(SystemExit, match="work on .*wait for them|are being worked on by tasks of a cluster: wait for"):
        main(SUBMIT)
    run_now(first)
    run_now(second)
    wait_for(lambda: last not in queue(), 300)

    assert [row["state"] for row in rows(capsys)] == ["finished", "finished"]
    for fold in (0, 1):
        command = f"nnUNetv2_train 1 2d {fold} -tr {TRAINER} -p tiny -device cpu"
        assert started_commands(long_folds, fold) == [command, f"{command} --c"]
        log = read_checkpoint(model_folder(long_folds) / f"fold_{fold}" / "checkpoint_final.pth")["logging"]
        assert len(log["train_losses"]) == EPOCHS
    notes = fold_log(long_folds, 0).parent
    assert (notes / "report.html").is_file()
    assert (model_folder(long_folds) / "crossval_results_folds_0_1" / "postprocessing.pkl").is_file()
    assert (model_folder(long_folds) / "evaluation" / "evaluation.json").is_file()


@needs_slurm
def test_cancel_ends_what_was_submitted_and_nothing_else(long_folds, capsys, tmp_path):
    script = tmp_path / "stranger.sh"
    script.write_text("#!/bin/bash\nsleep 600\n")
    stranger = slurm(
        "sbatch", "--parsable", "--job-name=nnunet-sfma-1", f"--output={tmp_path}/out", str(script)
    ).strip()
    main(SUBMIT)
    ours = job_ids(capsys.readouterr().out)
    main(["status", "-d", "1", "--cancel"])
    assert "Cancelled job" in capsys.readouterr().err
    wait_for(lambda: not set(ours) & set(queue()), 60)
    assert stranger in queue()


@pytest.mark.slow
@needs_slurm
def test_parts_of_a_prediction_and_the_last_look_at_them(long_folds, train, tmp_path, capsys):  # noqa: F811
    """Then a file is cut off, as by a task that was killed."""
    train("tiny")
    images, output = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for case in ("case_0", "case_1"):
        shutil.copy(long_folds.raw / long_folds.plain / "imagesTr" / f"{case}_0000.nii.gz", images)
    arguments = ["-i", str(images), "-o", str(output), "-d", "1", "-tr", TRAINER, "-p", "tiny", "-f", "0", "-np", "1"]
    submit = ["predict", *arguments, *SUBMIT[SUBMIT.index("-device") :], "--parts", "2"]
    main(submit)
    *_, last = job_ids(capsys.readouterr().out)
    wait_for(lambda: last not in queue(), 300)
    assert {path.name for path in output.glob("*.nii.gz")} == {"case_0.nii.gz", "case_1.nii.gz"}
    (log,) = (output / "slurm").glob(f"{last}_0_log.out")
    assert has_line(log, f"Predictions: {output}")
    whole = (output / "case_0.nii.gz").read_bytes()
    (output / "case_0.nii.gz").write_bytes(whole[:-20])
    main(submit)
    assert f"Removed {output / 'case_0.nii.gz'}" in capsys.readouterr().out
    wait_for(lambda: not queue(), 300)
    assert (output / "case_0.nii.gz").read_bytes() == whole


@needs_slurm
def test_nothing_stays_in_the_queue_if_the_last_job_is_refused(long_folds, monkeypatch, capsys):
    def refuse(*arguments):
        raise UserError("SLURM refused the jobs (QOSMaxSubmitJobPerUserLimit): check the options.")

    monkeypatch.setattr("nnunet_sfma.crossval.slurm.submit_after", refuse)
    with pytest.raises(SystemExit, match="QOSMaxSubmitJobPerUserLimit"):
        main(SUBMIT)
    wait_for(lambda: not queue(), 60)
    assert not list(fold_log(long_folds, 0).parent.glob("*.slurm.json"))


def test_task_that_never_gets_on_is_not_queued_for_ever(tmp_path):
    """SLURM announces preemption and time limit by the same signal."""
    pytest.importorskip("submitit")

    class Job:
        stamps = 0

        def stamp(self):
            return self.stamps

    task = Task(Job(), stamp=0)
    queued = 0
    while task.checkpoint() is not None:
        task = task.checkpoint().function
        task.stamp = 0
        queued += 1
    assert queued == 5
    task.job.stamps = 1
    assert task.checkpoint().function.runs_in_vain == 0


@pytest.mark.slow
@needs_slurm
def test_failed_fold_is_named_by_the_last_job(long_folds, capsys):
    take_the_place_of_the_validation(long_folds)
    main([*SUBMIT, "--folds", "0"])
    _, last = job_ids(capsys.readouterr().out)
    wait_for(lambda: last not in queue(), 300)
    assert [row["state"] for row in rows(capsys)] == ["failed (1)", "not trained"]
    (log,) = (fold_log(long_folds, 0).parent / "slurm").glob(f"{last}_0_log.out")
    assert has_line(log, f"Not finished: {TRAINER} tiny fold 0. Mend it, then give the same command again.")


@needs_slurm
@pytest.mark.parametrize(
    "option, sentence",
    [
        ("--partition=nobodys", "SLURM refused the jobs"),
        ("--slurm=nonsense", "give KEY=VALUE, such as qos=long"),
        ("--slurm=array=1-2", "--slurm array: crossval and predict set it themselves"),
    ],
)
def test_refused_submissions(long_folds, option, sentence):
    with pytest.raises(SystemExit, match=sentence) as stop:
        main([*SUBMIT, option])
    assert "\n" not in str(stop.value)
    assert not queue()


@pytest.mark.parametrize(
    "text, minutes",
    [("90", 90), ("90:00", 90), ("36:00:00", 2160), ("0:20:30", 21), ("2-12", 3600), ("1-12:30", 2190), ("1-0", 1440)],
)
def test_time_limits(text, minutes):
    assert read_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "1-", "1:2:3:4", "-5"])
def test_wrong_time_limits(text):
    with pytest.raises(SystemExit, match="is no time limit"):
        read_minutes(text)
