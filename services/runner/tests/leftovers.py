"""What a box may leave on this machine: processes, control groups, containers."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from harness import processes


def alive(marker: str) -> list[str]:
    """Processes on this machine whose command line holds `marker`, ours aside."""
    commands = ((pid, text.split(b"\0")) for pid, text in processes.told("cmdline"))
    return [
        str(pid)
        for pid, arguments in commands
        if marker.encode() in arguments and b"python" not in arguments[0]
    ]


def groups(runner_id: str) -> list[Path]:
    # Two levels and no more: a search beneath would stumble over folders that go away.
    root, name = Path("/sys/fs/cgroup"), f"patchwright/{runner_id}.*"
    return [*root.glob(name), *root.glob(f"*/{name}")]


def containers(runner_id: str) -> list[str]:
    label = f"label=patchwright.runner={runner_id}"
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", label],
        capture_output=True,
        timeout=20,
        check=False,
    )
    return listed.stdout.decode().split()


async def until(check: Callable[[], object], seconds: float) -> float:
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.05)
    return time.monotonic() - began


def left(runner_id: str, marker: str) -> list[object]:
    """All of it."""
    return [*alive(marker), *groups(runner_id), *containers(runner_id)]
