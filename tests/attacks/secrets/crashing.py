"""Core dumps: whether a crash leaves the memory of a process behind as a file."""

from __future__ import annotations

import resource
import signal
import time
from pathlib import Path

import psutil

from .places import CORES, Place
from .places_files import kind_of

GONE_TIMEOUT = 20.0
"""Seconds for a process to end and, if it may, to write its memory down."""
PATTERN = Path("/proc/sys/kernel/core_pattern")


def dumps_are_files() -> bool:
    """Not where the kernel hands them to a program, as many distributions let it."""
    return not PATTERN.read_text().startswith("|")


def crash(pid: int, number: signal.Signals = signal.SIGABRT) -> None:
    """As a fault would, and wait for its end."""
    process = psutil.Process(pid)
    process.send_signal(number)
    deadline = time.monotonic() + GONE_TIMEOUT
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not end")
        time.sleep(0.02)


def allow_core(pid: int) -> None:
    """What an operator may do to a running process; only root raises the hard limit."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(pid, resource.RLIMIT_CORE, unlimited)


def cores(root: Path) -> list[Place]:
    """Those that lie anywhere below `root`, where every process of the stack was started."""
    found = [path for path in sorted(root.rglob("core*")) if path.is_file()]
    return [
        Place(CORES, path.name, path.read_bytes())
        for path in found
        if kind_of(path.relative_to(root)) == CORES
    ]
