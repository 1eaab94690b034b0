"""What a run left on this machine: processes, control groups, containers, temporary files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from .crew import Crew

DOCKER_TIMEOUT = 30.0


def orphans(crew: Crew) -> list[str]:
    """While everything runs: processes of services that are no more."""
    return [f"process {_told(process)}" for process in _strangers(crew)]


def abandoned(temporary: Path) -> list[Path]:
    """Temporary folders whose owner is dead: a living one holds its lock."""
    found = []
    for folder in temporary.iterdir():
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(folder)
            finally:
                os.close(descriptor)
    return found


def leftovers(crew: Crew) -> list[str]:
    """After everything was stopped: there may be nothing at all."""
    return [
        *(f"process {_told(process)}" for process in _ours(crew)),
        *(f"control group {path}" for path in _groups(crew.runner_ids)),
        *(f"container {name}" for name in _containers(crew.runner_ids)),
        *(f"temporary {path}" for path in sorted(crew.temporary.iterdir())),
        *(f"half-made {path}" for path in _half_made(crew.root)),
    ]


def _ours(crew: Crew) -> Iterator[psutil.Process]:
    """By session, or by what they were told: a box's inside has a session of its own."""
    home = str(crew.root)
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            told = " ".join(process.cmdline())
            if os.getsid(process.pid) in crew.sessions or home in told:
                yield process


def _strangers(crew: Crew) -> Iterator[psutil.Process]:
    for process in _ours(crew):
        with contextlib.suppress(psutil.Error):
            if all(parent.pid != os.getpid() for parent in process.parents()):
                yield process


def _told(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {' '.join(process.cmdline())[:120]}"
    return str(process.pid)


def _groups(runner_ids: Iterable[str]) -> Iterator[Path]:
    for runner_id in runner_ids:
        for pattern in (f"*/patchwright/{runner_id}.*", f"patchwright/{runner_id}.*"):
            yield from Path("/sys/fs/cgroup").glob(pattern)


def _containers(runner_ids: Iterable[str]) -> list[str]:
    if not shutil.which("docker"):
        return []
    found: list[str] = []
    for runner_id in runner_ids:
        command = ("docker", "ps", "--all", "--quiet", "--filter")
        listed = subprocess.run(
            (*command, f"label=patchwright.runner={runner_id}"),
            capture_output=True, text=True, timeout=DOCKER_TIMEOUT, check=False,
        )  # fmt: skip
        found += listed.stdout.split()
    return found


def _half_made(root: Path) -> Iterator[Path]:
    """Mirrors that never became one, and work trees of git's own."""
    for data in root.glob("home/runner*"):
        yield from data.glob("mirrors/*.new-*")
        yield from data.glob("mirrors/*.git/worktrees/*")
        yield from data.glob("environments/*.new")
