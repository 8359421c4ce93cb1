"""Run one command for a driver, write how it ended, and leave none of its processes behind.

nnU-Net's worker processes outlive a main process that was killed, and a main process outlives a driver that was killed:
it would go on training into a folder that the next driver believes to be free. So between driver and command stands
this small process. It ends the command when the driver is gone, the workers when the command is gone, and a command
that waits for ever for a worker that was killed. A second one, which only waits, ends all of them if this one is
killed. It is run as a script of its own, ``python supervise.py DRIVER_PID PATIENCE COMMAND...``, and imports nothing
but the standard library.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.3
LOOKS_BETWEEN_COUNTS = 5
ENDED = "[ended with exit code "
GONE = "[a worker process is gone"
PR_SET_PDEATHSIG = 1


def main(driver: int, patience: float, command: list[str]) -> int:
    """Run the command until it ends or the driver does.

    Args:
        driver: process id of this process' parent.
        patience: seconds to wait for a command that has lost a worker process and does nothing.
        command: program and arguments.

    Returns:
        The command's exit code, as a shell gives it: 128 + number if a signal ended it; 129 if the driver is gone.
    """
    signal.signal(signal.SIGTERM, _leave)
    # a cluster announces the end of a job with it to all processes, and the driver alone acts on it
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_tie_to_parent)
    standstill, stuck = Standstill(process.pid, patience), False
    with _survived_by_a_guard(process.pid):
        try:
            while process.poll() is None and not stuck:
                stuck = standstill.noticed()
                if os.getppid() != driver:
                    return 128 + signal.SIGHUP
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            _end_group(process.pid)
            process.wait()
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    if stuck:
        print(f"\n{GONE}, and nothing was done for {patience:.0f} s: killed]", flush=True)
    print(f"\n{ENDED}{code}]", flush=True)
    return code


class Standstill:
    """Tells when a command has lost a worker process and has done nothing since.

    A pool of Python's replaces a worker that was killed, and waits for ever for what that one was about to return.
    Workers that ended as they should look the same; but then the command goes on.

    Args:
        session: of the command's processes.
        patience: seconds, counted in looks: nothing seems to stand still because all was suspended.
    """

    SHARE_OF_A_CORE = 0.02

    def __init__(self, session: int, patience: float):
        self._session, self._patience = session, patience
        self._looks, self._lost, self._used = 0, False, {}
        self._seconds = self._spent = 0.0

    def noticed(self) -> bool:
        """Look at the command's processes; True if they stand still."""
        self._looks += 1
        if self._looks % LOOKS_BETWEEN_COUNTS == 0:
            self._count(_processor_seconds(self._session))
        return self._lost and self._seconds >= self._patience

    def _count(self, used: dict[int, float]) -> None:
        self._lost = self._lost or bool(self._used.keys() - used.keys())
        self._spent += sum(max(0.0, seconds - self._used.get(pid, 0.0)) for pid, seconds in used.items())
        self._used = used
        self._seconds += LOOKS_BETWEEN_COUNTS * SECONDS_BETWEEN_LOOKS
        if self._spent > self.SHARE_OF_A_CORE * self._patience:
            self._seconds = self._spent = 0.0


def _processor_seconds(session: int) -> dict[int, float]:
    """What the living processes of a session have used, by process id; nothing where there is no /proc."""
    used = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc") if sys.platform == "linux" else ())):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if os.getsid(pid) == session:
                state, *numbers = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
                if state not in "ZX":
                    used[pid] = (int(numbers[10]) + int(numbers[11])) / os.sysconf("SC_CLK_TCK")
    return used


@contextlib.contextmanager
def _survived_by_a_guard(group: int):
    """Leave a process that ends a process group if this process is killed in the block.

    It holds what this process has inherited, the driver's locks for instance, until it has done so.
    """
    end, held_open = os.pipe()
    guard = os.fork()
    if guard == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        os.close(held_open)
        if not os.read(end, 1):
            _end_group(group)
        os._exit(0)
    os.close(end)
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):  # it was killed itself
            os.write(held_open, b".")
        os.close(held_open)
        os.waitpid(guard, 0)


def _leave(number: int, frame) -> None:
    raise SystemExit(128 + number)


def _tie_to_parent() -> None:
    """Linux ends the command with this process, even if this process is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
