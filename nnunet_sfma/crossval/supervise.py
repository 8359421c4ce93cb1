"""Run one command for a driver, write how it ended, and leave none of its processes behind.

nnU-Net's worker processes outlive a main process that was killed, and a main process outlives a driver that was killed:
it would go on training into a folder that the next driver believes to be free. So between driver and command stands
this small process. It ends the command when the driver is gone, and the workers when the command is gone. It is run as
a script of its own, ``python supervise.py DRIVER_PID COMMAND...``, and imports nothing but the standard library.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

SECONDS_BETWEEN_LOOKS = 0.3
ENDED = "[ended with exit code "
PR_SET_PDEATHSIG = 1


def main(driver: int, command: list[str]) -> int:
    """Run the command until it ends or the driver does.

    Args:
        driver: process id of this process' parent.
        command: program and arguments.

    Returns:
        The command's exit code, as a shell gives it: 128 + number if a signal ended it; 129 if the driver is gone.
    """
    signal.signal(signal.SIGTERM, _leave)
    # a cluster announces the end of a job with it to all processes, and the driver alone acts on it
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_tie_to_parent)
    try:
        while process.poll() is None:
            if os.getppid() != driver:
                return 128 + signal.SIGHUP
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        _end_group(process)
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    print(f"\n{ENDED}{code}]", flush=True)
    return code


def _leave(number: int, frame) -> None:
    raise SystemExit(128 + number)


def _tie_to_parent() -> None:
    """Linux ends the command with this process, even if this process is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), sys.argv[2:]))
