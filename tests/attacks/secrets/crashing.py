"""Core dumps: whether a crash leaves the memory of a process behind as a file."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from .places import CORES, Place
from .places_files import kind_of

GONE_TIMEOUT = 20.0
"""Seconds for a process to end and, if it may, to write its memory down."""
PATTERN = Path("/proc/sys/kernel/core_pattern")


def dumps_lie_beside() -> bool:
    """In the process's own folder: not where the kernel hands them to a program, or elsewhere."""
    return "/" not in PATTERN.read_text()


def crash(pid: int, number: signal.Signals = signal.SIGABRT) -> None:
    """As a fault would, and wait for its end."""
    process = psutil.Process(pid)
    process.send_signal(number)
    deadline = time.monotonic() + GONE_TIMEOUT
    # Its end may come between any two looks, and shows as one that finds no process.
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} does not end")
            time.sleep(0.02)


@contextmanager
def cores_allowed() -> Iterator[None]:
    """What is started inside may dump core, as far as it does not forbid it itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def core_limit(pid: int) -> tuple[int, int]:
    """Soft and hard, in bytes."""
    return resource.prlimit(pid, resource.RLIMIT_CORE)


def allow_core(pid: int) -> bool:
    """Raise the limits of a running process, so that the rest must hold alone; whether we may."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    try:
        resource.prlimit(pid, resource.RLIMIT_CORE, unlimited)
    except PermissionError:
        return False
    return True


def is_private(pid: int) -> bool:
    """Its `/proc` entries belong to root: always so for root's own, else it is not dumpable."""
    return Path(f"/proc/{pid}/environ").stat().st_uid == 0


def cores(root: Path) -> list[Place]:
    """Those that lie anywhere below `root`, where every process of the stack was started."""
    found = [path for path in sorted(root.rglob("core*")) if path.is_file()]
    return [
        Place(CORES, path.name, path.read_bytes())
        for path in found
        if kind_of(path.relative_to(root)) == CORES
    ]
