"""The lock of a fold that is held on another node, which may be dead."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nnunet_sfma.errors import UserError
from nnunet_sfma.trainers.fold_lock import CLUSTERS, alone

HOLD = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    file.write('{"host": "%s", "pid": 1234, "since": "2026-01-01 10:00:00", "command": "nnUNetv2_train"}' % sys.argv[2])
    file.flush()
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen]]:
    """``held(host)``: the process that holds the fold in ``tmp_path``, until its input is closed."""
    processes = []

    def hold(host: str) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(tmp_path / "training.lock"), host]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.wait()


def test_task_that_was_queued_again_waits_for_the_lock_of_its_dead_node(held, tmp_path, monkeypatch, capfd):
    """On a network file system, which keeps it for a while."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    dead, said = held("another-node"), []

    def let_go() -> None:
        while "waiting up to" not in "".join(said):
            said.append(capfd.readouterr().out)
            time.sleep(0.05)
        dead.stdin.close()

    server = threading.Thread(target=let_go, daemon=True)
    server.start()
    with alone(tmp_path):
        server.join()
    assert "training.lock is held by process 1234 on another-node since 2026-01-01 10:00:00: waiting up to" in said[-1]


@pytest.mark.parametrize(("variable", "host"), [("SLURM_JOB_ID", socket.gethostname()), ("HOME", "another-node")])
def test_lock_of_a_process_that_must_be_alive_is_refused_at_once(held, tmp_path, monkeypatch, variable, host, capsys):
    """One on this machine; and somebody at a desk is told of one elsewhere."""
    for name in CLUSTERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "77")
    held(host)
    with pytest.raises(UserError, match=rf"is being trained or validated by process 1234 on {host} "), alone(tmp_path):
        pass
    assert capsys.readouterr().out == ""
