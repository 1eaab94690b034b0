"""Nothing of a job stays for five seconds after its end, or after its runner was killed."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from harness.boxes import BACKENDS
from patchwright_runner.sandbox.protocol import Backend

from .leftovers import alive, containers, groups, left, until

SECONDS = 5.0
"""The promise."""
START_SECONDS = 60.0
BUSY = 3
"""Processes of the busy box that carry its marker."""

OWNER = """
import asyncio, sys
from patchwright_runner.sandbox.{module} import {kind}
from harness.boxes import BACKENDS
from patchwright_runner.sandbox.protocol import BoxSpec, Limits

async def main():
    limits = Limits(memory_bytes=192 << 20, workspace_bytes=1 << 20)
    marker = sys.argv[2]
    deaf = "trap '' TERM HUP INT"
    orphan = f"({{deaf}}; setsid sleep {{marker}} &)"
    daemon = f"({{deaf}}; setsid bash -c '(exec -a {{marker}} sleep 600 &) &')"
    stubborn = f"{{orphan}}; {{daemon}}; {{deaf}}; exec -a {{marker}} sleep 600"
    async with await {kind}(sys.argv[1]).start(BoxSpec("job-1", limits=limits)) as box:
        await box.run(stubborn, timeout=600)

asyncio.run(main())
"""


@asynccontextmanager
async def _busy_runner(
    backend: Backend, runner_id: str, marker: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process whose box runs what does not want to end."""
    program = OWNER.format(module=backend.name, kind=BACKENDS[backend.name].__name__)
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, runner_id, marker), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: len(alive(marker)) == BUSY, START_SECONDS)
        yield owner
    finally:
        if owner.returncode is None:
            owner.kill()
        await owner.wait()


@pytest.fixture
def marker() -> str:
    """What the box's processes are called; a number, because some of them sleep so long."""
    return str(10**6 + secrets.randbelow(10**6))


async def test_killed_runner_leaves_nothing_though_no_other_starts(
    backend: Backend, runner_id: str, marker: str
) -> None:
    async with _busy_runner(backend, runner_id, marker) as owner:
        assert groups(runner_id) or containers(runner_id)
        owner.send_signal(signal.SIGKILL)
        await owner.wait()
        await until(lambda: not left(runner_id, marker), SECONDS)


@pytest.mark.parametrize("backend", ["docker"], indirect=True)
async def test_container_ends_when_the_docker_program_is_killed_with_its_runner(
    backend: Backend, runner_id: str, marker: str
) -> None:
    """Nobody is left to tell the engine: the end of the box's input has to do."""
    async with _busy_runner(backend, runner_id, marker) as owner:
        [client] = psutil.Process(owner.pid).children()
        assert "docker" in client.name()
        os.kill(owner.pid, signal.SIGSTOP)  # it must not see the other one die
        client.kill()
        owner.kill()
        await owner.wait()
        await until(lambda: not left(runner_id, marker), SECONDS)


@pytest.mark.parametrize("backend", ["docker"], indirect=True)
async def test_container_ends_when_the_docker_program_alone_is_killed(
    backend: Backend, runner_id: str, marker: str
) -> None:
    async with _busy_runner(backend, runner_id, marker) as owner:
        [client] = psutil.Process(owner.pid).children()
        client.kill()
        await until(lambda: not left(runner_id, marker), SECONDS)


async def test_start_after_a_crash_finds_nothing_more_to_remove(
    backend: Backend, runner_id: str, marker: str
) -> None:
    async with _busy_runner(backend, runner_id, marker) as owner:
        owner.kill()
        await owner.wait()
        await until(lambda: not left(runner_id, marker), SECONDS)
    assert await backend.sweep() == 0
