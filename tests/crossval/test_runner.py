"""Jobs in processes: devices, failures, kills, and nothing left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from nnunet_sfma.crossval import job_log, runner
from nnunet_sfma.crossval.devices import Device
from nnunet_sfma.crossval.runner import run_jobs
from nnunet_sfma.errors import UserError
from tests.crossval.conftest import wait_for

PYTHON = Path(sys.executable).name


@dataclass(frozen=True)
class Script:
    """A job that runs Python code until it has written its file."""

    folder: Path
    name: str
    code: str

    @property
    def title(self) -> str:
        return self.name

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def done(self) -> Path:
        return self.folder / f"{self.name}.done"

    def prepare(self) -> None:
        if self.code == "unprepared":
            raise UserError("the split is damaged")

    def next_command(self) -> list[str] | None:
        return None if self.done.exists() else [PYTHON, "-c", textwrap.dedent(self.code), str(self.done)]

    def stamp(self) -> object:
        return sorted(path.name for path in self.folder.glob(f"{self.name}.step*"))


FINISH = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(os.environ.get('CUDA_VISIBLE_DEVICES', ''))"


CPU = (Device("cpu"),)


def run(jobs, devices=CPU, show=lambda run: None):
    return run_jobs(jobs, devices, show)


def test_one_job_per_device_at_a_time(tmp_path):
    jobs = [Script(tmp_path, f"job_{number}", "import time; time.sleep(0.6)\n" + FINISH) for number in range(5)]
    seen = []
    devices = [Device("cuda:2", "2"), Device("cuda:5", "5")]
    assert run(jobs, devices, lambda state: seen.append(len(state.running))) == []
    assert max(seen) == 2
    assert {job.done.read_text() for job in jobs} == {"2", "5"}


def test_finished_jobs_are_not_started(tmp_path):
    job = Script(tmp_path, "job", FINISH)
    job.done.touch()
    assert run([job]) == []
    assert not job.log.exists()


def test_failure_does_not_stop_the_others_and_is_described(tmp_path):
    bad = Script(tmp_path, "bad", "print('reading'); raise SystemExit('case_3 is broken')")
    good = Script(tmp_path, "good", FINISH)
    (failure,) = run([bad, good])
    assert good.done.exists()
    described = failure.describe()
    assert described.startswith(f"bad: ended with exit code 1. The end of {bad.log}:")
    assert "reading" in described and described.endswith("case_3 is broken")


@pytest.mark.parametrize("code", [-1, 128, 163, 200])
def test_exit_codes_that_are_no_signals(tmp_path, code):
    good = Script(tmp_path, "good", FINISH)
    (failure,) = run([Script(tmp_path, "bad", f"raise SystemExit({code})"), good])
    assert failure.reason == f"ended with exit code {code % 256}"
    assert good.done.exists()


def test_job_that_cannot_be_started_does_not_stop_the_others(tmp_path):
    good = Script(tmp_path, "good", FINISH)
    (failure,) = run([Script(tmp_path, "bad", "unprepared"), good])
    assert failure.reason == "could not be started (the split is damaged)"
    assert good.done.exists()


def test_end_is_found_behind_an_unfinished_line(tmp_path):
    job = Script(tmp_path, "job", "print('50%', end=''); raise SystemExit(3)")
    run([job])
    assert job_log.exit_code(job.log) == 3
    assert job_log.tail(job.log, 1) == ["50%"]


def test_a_command_that_leaves_results_out_fails(tmp_path):
    (failure,) = run([Script(tmp_path, "job", "pass")])
    assert failure.reason == "the command ended well, but left results out"


def test_killed_job_is_continued_while_it_gets_on(tmp_path):
    steps = f"""
        import os, pathlib, signal, sys
        folder = pathlib.Path({str(tmp_path)!r})
        steps = len(list(folder.glob("job.step*")))
        if steps == 3:
            pathlib.Path(sys.argv[1]).touch()
        else:
            (folder / f"job.step{{steps}}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    job = Script(tmp_path, "job", steps)
    assert run([job]) == []
    assert job.log.read_text().count("$ ") == 4


def test_killed_job_that_does_not_get_on_fails(tmp_path):
    job = Script(tmp_path, "job", "import os; os.kill(os.getpid(), 9)")
    (failure,) = run([job])
    assert failure.reason == "killed by SIGKILL before it got on"
    assert job.log.read_text().count("$ ") == 1


def test_job_that_was_asked_to_end_is_not_continued(tmp_path):
    code = f"import os, pathlib; pathlib.Path({str(tmp_path)!r}, 'job.step1').touch(); os.kill(os.getpid(), 15)"
    (failure,) = run([Script(tmp_path, "job", code)])
    assert failure.reason == "ended by SIGTERM"


WORKER = """
    import os, pathlib, time
    if os.fork() == 0:
        pathlib.Path({folder!r}, "worker").write_text(str(os.getpid()))
        time.sleep(600)
    pathlib.Path({folder!r}, "main").write_text(str(os.getpid()))
    time.sleep(600)
"""


def _pid(path: Path) -> int:
    return int(wait_for(lambda: path.is_file() and path.read_text()))


def _is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_workers_end_with_a_killed_command(tmp_path):
    job = Script(tmp_path, "job", WORKER.format(folder=str(tmp_path)))

    def kill_main(state):
        if (tmp_path / "worker").is_file() and (tmp_path / "main").is_file():
            with contextlib.suppress(ProcessLookupError):  # killed at an earlier look
                os.kill(_pid(tmp_path / "main"), signal.SIGKILL)

    (failure,) = run([job], show=kill_main)
    assert failure.reason == "killed by SIGKILL before it got on"
    wait_for(lambda: _is_gone(_pid(tmp_path / "worker")), 10)


DRIVER = """
from pathlib import Path
from nnunet_sfma.crossval.devices import Device
from nnunet_sfma.crossval.runner import run_jobs
from tests.crossval.test_runner import WORKER, Script

folder = Path({folder!r})
run_jobs([Script(folder, "job", WORKER.format(folder=str(folder)))], [Device("cpu")], lambda run: None)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_everything_ends_with_the_driver(tmp_path, number):
    root = Path(__file__).resolve().parents[2]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER.format(folder=str(tmp_path))], cwd=root)
    pids = [_pid(tmp_path / name) for name in ("main", "worker")]
    driver.send_signal(number)
    driver.wait(20)
    for pid in pids:
        wait_for(lambda pid=pid: _is_gone(pid), 10)


@pytest.mark.parametrize("driver_too", [False, True])
def test_command_and_its_workers_end_with_a_killed_supervisor(tmp_path, driver_too):
    root = Path(__file__).resolve().parents[2]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER.format(folder=str(tmp_path))], cwd=root)
    main, worker = (_pid(tmp_path / name) for name in ("main", "worker"))
    supervisor = psutil.Process(main).parent()
    if driver_too:
        driver.kill()
    supervisor.kill()
    for pid in (main, worker):
        wait_for(lambda pid=pid: _is_gone(pid), 10)
    assert driver.wait(20) == (-signal.SIGKILL if driver_too else 0)


LOSES_A_WORKER = """
    import multiprocessing, pathlib, sys
    done = pathlib.Path(sys.argv[1])
    began = done.with_name("began")
    if began.exists() and {recovers}:
        done.touch()
    else:
        began.touch()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.apply(exec, ("import os, time; time.sleep(2); os.kill(os.getpid(), 9)",))
"""


@pytest.mark.parametrize("recovers", [True, False])
def test_command_that_waits_for_a_killed_worker_is_noticed_and_restarted(tmp_path, monkeypatch, capsys, recovers):
    """Once even if it did not get on: which worker is killed for lack of memory is chance."""
    monkeypatch.setattr(runner, "SECONDS_OF_STANDSTILL", 2)
    job = Script(tmp_path, "job", LOSES_A_WORKER.format(recovers=recovers))
    failures = run([job])
    said = job.log.read_text()
    assert said.count("$ ") == 2
    assert said.count("[a worker process is gone, and nothing was done for 2 s: killed]") == (1 if recovers else 2)
    assert "job: lost a worker process; it is continued." in capsys.readouterr().out
    expected = [] if recovers else ["lost a worker process before it got on"]
    assert [failure.reason for failure in failures] == expected


def test_command_that_works_or_lost_nobody_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "SECONDS_OF_STANDSTILL", 1)
    worker = "import multiprocessing as m, time; w = m.get_context('fork').Process(target=time.sleep, args=(2,))\n"
    worker += "w.start(); w.join()\nwhile time.thread_time() < 3: pass\n"
    jobs = [
        Script(tmp_path, "idle", "import time; time.sleep(4)\n" + FINISH),
        Script(tmp_path, "busy", worker + FINISH),
    ]
    assert run(jobs, [Device("cpu"), Device("cuda:0", "0")]) == []


@pytest.mark.parametrize(
    "printed, reason",
    [
        ("RuntimeError: One or more background workers are no longer alive. Exiting.", None),
        ("RuntimeError: Some background workers are no longer alive", None),
        ("RuntimeError: Background workers died. Look for the error message further up!", None),
        ("A worker process ended unexpectedly, most likely for lack of memory; try again", None),
        (
            "Exception in background worker 0:\n case_3\nOne or more background workers are no longer alive.",
            "ended with exit code 1",
        ),
        ("Process SpawnProcess-1:\nTraceback ...\nBackground workers died.", "ended with exit code 1"),
    ],
)
def test_end_by_a_lost_worker_is_continued_unless_the_worker_failed(tmp_path, printed, reason):
    code = f"""
        import pathlib, sys
        step = pathlib.Path({str(tmp_path)!r}, "job.step1")
        if step.exists():
            pathlib.Path(sys.argv[1]).touch()
        else:
            step.touch()
            raise SystemExit({printed!r})
    """
    failures = run([Script(tmp_path, "job", code)])
    assert [failure.reason for failure in failures] == ([reason] if reason else [])
