"""Control groups for boxes that no engine limits: version 1 and 2, where we may write.

Blocking file calls of microseconds each; nothing here waits except `remove`, which does so
without blocking.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from patchwright_runner.sandbox.protocol import Limits

_CONTROLLERS = ("memory", "pids", "cpu")
_FOLDER = "patchwright"
_PERIOD_MICROSECONDS = 100_000
_REMOVE_TRIES = 100
_REMOVE_PAUSE_SECONDS = 0.03

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Group:
    """One box's directories, one per hierarchy."""

    folders: tuple[Path, ...]

    @property
    def entrances(self) -> list[str]:
        """Files that take a process id; whoever writes 0 enters."""
        return [str(folder / "cgroup.procs") for folder in self.folders]

    async def remove(self) -> None:
        """Kill what is left and delete; a directory stays busy until the last one is reaped."""
        for folder in self.folders:
            await _remove(folder)


class Groups:
    """The hierarchies of this machine under which one runner's boxes live."""

    def __init__(self, parents: Mapping[Path, frozenset[str]], runner_id: str) -> None:
        self._parents = parents
        self._runner_id = runner_id

    def create(self, name: str, limits: Limits) -> Group:
        """Raises OSError when the kernel refuses."""
        folders = []
        for parent, controllers in self._parents.items():
            folder = parent / f"{self._runner_id}.{name}"
            folder.mkdir()
            unified = (parent / "cgroup.controllers").exists()
            for file, value in (_second if unified else _first)(limits, controllers):
                if (folder / file).exists():
                    (folder / file).write_text(value)
            folders.append(folder)
        return Group(tuple(folders))

    async def sweep(self) -> int:
        """Remove what boxes of this runner left; the number of boxes."""
        left = {
            folder.name
            for parent in self._parents
            for folder in parent.glob(f"{self._runner_id}.*/")
        }
        for name in left:
            await Group(tuple(parent / name for parent in self._parents)).remove()
        return len(left)


def find(runner_id: str, mounts: Path = Path("/proc/self/mounts")) -> Groups | None:
    """The writable hierarchies with all three controllers; None when limits cannot be set."""
    parents: dict[Path, frozenset[str]] = {}
    found: set[str] = set()
    for line in mounts.read_text().splitlines():
        _, point, kind, options, *_ = line.split(" ")
        offered = _offered(Path(point), kind, options) - found
        if offered and _make(Path(point) / _FOLDER):
            parents[Path(point) / _FOLDER] = frozenset(offered)
            found |= offered
    return Groups(parents, runner_id) if found == set(_CONTROLLERS) else None


def _offered(point: Path, kind: str, options: str) -> set[str]:
    if kind == "cgroup":
        return set(_CONTROLLERS) & set(options.split(","))
    if kind == "cgroup2":
        return set(_CONTROLLERS) & set((point / "cgroup.controllers").read_text().split())
    return set()


def _make(folder: Path) -> bool:
    """Whether we may have groups here: read-only mounts and foreign owners are common."""
    try:
        folder.mkdir(exist_ok=True)
        if (folder / "cgroup.controllers").exists():
            _delegate(folder.parent)
            _delegate(folder)
        return os.access(folder, os.W_OK)
    except OSError as error:
        log.info("no control groups under %s: %s", folder, error)
        return False


def _delegate(folder: Path) -> None:
    wanted = " ".join(f"+{controller}" for controller in _CONTROLLERS)
    (folder / "cgroup.subtree_control").write_text(wanted)


def _first(limits: Limits, controllers: frozenset[str]) -> list[tuple[str, str]]:
    """Documentation/admin-guide/cgroup-v1. Memory with swap cannot be below memory."""
    settings = {
        "memory": [
            ("memory.limit_in_bytes", str(limits.memory_bytes)),
            ("memory.memsw.limit_in_bytes", str(limits.memory_bytes)),
        ],
        "pids": [("pids.max", str(limits.processes))],
        "cpu": [
            ("cpu.cfs_period_us", str(_PERIOD_MICROSECONDS)),
            ("cpu.cfs_quota_us", str(int(limits.cpus * _PERIOD_MICROSECONDS))),
        ],
    }
    return [
        pair
        for controller in settings
        if controller in controllers
        for pair in settings[controller]
    ]


def _second(limits: Limits, controllers: frozenset[str]) -> list[tuple[str, str]]:
    """Documentation/admin-guide/cgroup-v2."""
    settings = {
        "memory": [("memory.max", str(limits.memory_bytes)), ("memory.swap.max", "0")],
        "pids": [("pids.max", str(limits.processes))],
        "cpu": [("cpu.max", f"{int(limits.cpus * _PERIOD_MICROSECONDS)} {_PERIOD_MICROSECONDS}")],
    }
    return [
        pair
        for controller in settings
        if controller in controllers
        for pair in settings[controller]
    ]


async def _remove(folder: Path) -> None:
    for _ in range(_REMOVE_TRIES):
        if _try_to_remove(folder):
            return
        await asyncio.sleep(_REMOVE_PAUSE_SECONDS)
    log.error("cannot remove the control group %s", folder)


def _try_to_remove(folder: Path) -> bool:
    """Busy while anyone is in it; whoever is gets killed for the next try."""
    try:
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
