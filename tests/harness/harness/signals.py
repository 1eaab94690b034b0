"""Pausing a process for certain: `kill` returns before the last thread has stopped."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

STOP_TIMEOUT = 10.0
"""Seconds; a thread inside a system call stops when that is over."""


def pause(pid: int) -> None:
    """Return when no thread of it runs any more. `wake` ends it."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_TIMEOUT
    while not all(_stopped(thread) for thread in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not stop")
        time.sleep(0.001)


def wake(pid: int) -> None:
    """End a pause."""
    os.kill(pid, signal.SIGCONT)


def _stopped(thread: Path) -> bool:
    try:
        state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True  # it ended
    return state in "TtZX"
