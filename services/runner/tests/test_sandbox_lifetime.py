"""The contract of a box, part four: it dies with its owner and leaves nothing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from harness import signals
from harness.boxes import LIMITS
from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from patchwright_runner.sandbox.choose import NoSandbox, choose
from patchwright_runner.sandbox.docker import DockerBackend, DockerSettings
from patchwright_runner.sandbox.protocol import Availability, Backend, BoxLost, BoxSpec

from .leftovers import alive, containers, groups, until


async def test_box_that_hangs_is_removed_all_the_same(backend: Backend, runner_id: str) -> None:
    marker = str(300_000 + os.getpid())
    box = await backend.start(BoxSpec("job-1", limits=LIMITS))
    call = asyncio.create_task(box.run(f"exec sleep {marker}", timeout=600))
    await until(lambda: alive(marker), 5)
    status = Path(f"/proc/{alive(marker)[0]}/status").read_text()
    first_process = int(status.partition("PPid:")[2].split()[0])
    signals.pause(first_process)
    began = time.monotonic()
    await box.close()
    assert time.monotonic() - began < 6
    with pytest.raises(BoxLost):
        await call
    await until(lambda: not alive(marker) and not containers(runner_id), 2)
    assert groups(runner_id) == []


async def test_close_leaves_nothing(backend: Backend, runner_id: str) -> None:
    marker = str(200_000 + os.getpid())
    box = await backend.start(BoxSpec("job-1", limits=LIMITS))
    call = asyncio.create_task(box.run(f"setsid sleep {marker} & sleep {marker}", timeout=600))
    await until(lambda: len(alive(marker)) == 2, 5)
    began = time.monotonic()
    await box.close()
    assert time.monotonic() - began < 5
    with pytest.raises(BoxLost):
        await call
    assert (alive(marker), containers(runner_id), groups(runner_id)) == ([], [], [])


async def test_box_that_fails_to_start_leaves_nothing(backend: Backend, runner_id: str) -> None:
    with pytest.raises((BoxLost, OSError)):
        await backend.start(BoxSpec("job-1", mirror=Path("/nonexistent"), limits=LIMITS))
    assert (containers(runner_id), groups(runner_id)) == ([], [])


async def test_cancelled_start_leaves_nothing(backend: Backend, runner_id: str) -> None:
    start = asyncio.create_task(backend.start(BoxSpec("job-1", limits=LIMITS)))
    await asyncio.sleep(0.03)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await until(lambda: not containers(runner_id) and not groups(runner_id), 5)


async def test_sweep_removes_what_a_crash_left() -> None:
    """A container outlives its runner when the engine was away; here it is simply made."""
    backend = DockerBackend("test-crashed")
    if not (await backend.available()).ok:
        pytest.skip("needs Docker; the contract tests tell whether that is a failure")
    image = DockerSettings().image
    label = ("--label", "patchwright.runner=test-crashed")
    left = ("docker", "run", "--detach", "--network", "none", *label, image, "sleep", "60")
    assert subprocess.run(left, capture_output=True, timeout=30, check=False).returncode == 0
    assert await backend.sweep() == 1
    assert containers("test-crashed") == []
    assert await backend.sweep() == 0


async def test_sweep_removes_empty_controlgroups(runner_id: str) -> None:
    backend = BubblewrapBackend(runner_id)
    if backend._groups is None:
        pytest.skip("no writable control groups here")
    backend._groups.create("left", LIMITS)
    assert len(groups(runner_id)) > 0
    assert await backend.sweep() == 1
    assert groups(runner_id) == []


async def test_missing_docker_or_image_or_program_is_named() -> None:
    nowhere = {"PATH": "/usr/bin:/bin:/usr/local/bin", "DOCKER_HOST": "tcp://127.0.0.1:9"}
    away = await DockerBackend("test", DockerSettings(environment=nowhere)).available()
    assert not away.ok
    assert "Docker" in away.detail or "docker" in away.detail
    missing = await DockerBackend("test", DockerSettings(image="patchwright-none:0")).available()
    assert not missing.ok


class Pretended:
    """A backend that only says whether it works."""

    def __init__(self, name: str, availability: Availability) -> None:
        self.name = name
        self._availability = availability

    async def available(self) -> Availability:
        return self._availability


async def test_first_backend_that_works_is_chosen() -> None:
    broken = Pretended("docker", Availability(False, "no engine"))
    working = Pretended("bubblewrap", Availability(True, "0.8"))
    assert await choose("auto", [broken, working]) is working
    assert await choose("bubblewrap", [broken, working]) is working


async def test_no_backend_is_an_error_that_says_why_and_what_to_do() -> None:
    broken = Pretended("docker", Availability(False, "no engine answers"))
    with pytest.raises(NoSandbox, match=r"no engine answers.*Install bubblewrap"):
        await choose("auto", [broken])
    with pytest.raises(NoSandbox, match="choose one of auto, docker"):
        await choose("chroot", [broken])
