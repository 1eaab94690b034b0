"""A job that a person stopped: whatever its runner does with it ends within five seconds."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import psutil
import pytest

from harness.boxes import BACKENDS
from harness.boxes import working as usable
from patchwright_common.claims import Cancel
from patchwright_common.errors import Retry
from patchwright_common.flow import (
    ANSWER_PRODUCED,
    CHANGE_PRODUCED,
    JOB_FAILED,
    JOB_STARTED,
)
from patchwright_runner.agent.protocol import Observer
from patchwright_runner.history import newest
from patchwright_runner.locks import locked
from patchwright_runner.repository_config import PATH
from patchwright_runner.sandbox.protocol import Backend, Sandbox

from .runner_at_work import JOB, TURN, Act, Bench

CANCEL = Cancel(by="ada", cause="stopped", at=datetime(2026, 11, 28, tzinfo=UTC))
SECONDS = 5.0
"""From the stop to the end of everything that belongs to the job."""


@pytest.fixture
def nap() -> str:
    """A command that lasts, and that no other process has."""
    return f"sleep 3{secrets.randbelow(10**6):06}"


def napping(nap: str) -> list[psutil.Process]:
    """The processes at it; a container's and a box's can be seen from here."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline() == nap.split():
                found.append(process)
    return found


async def until_napping(nap: str) -> None:
    async with asyncio.timeout(60):
        while not napping(nap):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def at(bench: Bench, act: Act | None = None) -> AsyncIterator[None]:
    """The runner at work on the job, which is then stopped, and ends in time and in silence."""
    working = asyncio.create_task(bench.work(act))
    try:
        yield
        assert not working.done(), "it had ended by itself"
        began = time.monotonic()
        await bench.claims.cancel(JOB, CANCEL)
        # Returning is acknowledging.
        await asyncio.wait_for(working, 30)
        assert time.monotonic() - began < SECONDS
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    await assert_silence(bench)


async def assert_silence(bench: Bench) -> None:
    for route in (CHANGE_PRODUCED, ANSWER_PRODUCED, JOB_FAILED):
        assert await newest(bench.bus, route, JOB) is None


async def boxed(bench: Bench, config: str = "") -> Bench:
    """In a real box; any backend does."""
    bench.backend = await usable("bubblewrap", BACKENDS["bubblewrap"](f"t-{secrets.token_hex(4)}"))
    if config:
        (bench.origin.path / ".github").mkdir()
        bench.base = bench.origin.commit(PATH, config)
    return bench


async def test_command_that_runs_is_ended_with_its_box(
    bench: Bench, backend: Backend, nap: str
) -> None:
    bench.backend = backend
    await bench.request()

    async def act(_observer: Observer, box: Sandbox) -> None:
        await box.run(f"trap '' TERM INT HUP; {nap} & {nap}", timeout=300)

    async with at(bench, act):
        await until_napping(nap)

    assert napping(nap) == []
    assert await backend.sweep() == 0


async def test_set_up_is_ended(bench: Bench, nap: str) -> None:
    await boxed(bench, f"setup: [{nap}]\n")
    await bench.request()

    async with at(bench):
        await until_napping(nap)

    assert napping(nap) == []
    assert bench.resumed == [], "the agent never began"


async def test_verification_is_ended(bench: Bench, nap: str) -> None:
    await boxed(bench, f"verify: [{nap}]\n")
    await bench.request()

    async def act(_observer: Observer, box: Sandbox) -> None:
        await box.run("echo new > new.txt", timeout=60)

    async with at(bench, act):
        await until_napping(nap)

    assert napping(nap) == []


async def test_turn_of_the_model_is_not_waited_for(bench: Bench) -> None:
    await bench.request()
    asked, ended = asyncio.Event(), asyncio.Event()

    async def act(observer: Observer, _box: Sandbox) -> None:
        await observer.turn_finished(TURN)
        asked.set()
        try:
            await asyncio.sleep(300)
        finally:
            ended.set()

    async with at(bench, act):
        await asyncio.wait_for(asked.wait(), 30)

    assert ended.is_set()


async def test_wait_for_the_repositorys_mirror_is_ended(bench: Bench) -> None:
    await bench.request()
    mirrors = bench.folder / "mirrors"
    mirrors.mkdir()
    async with locked(mirrors / "7.use"), at(bench):
        async with asyncio.timeout(30):
            while await bench.claims.claim(JOB) is None:
                await asyncio.sleep(0.02)

    assert await newest(bench.bus, JOB_STARTED, JOB) is None


async def test_job_that_was_stopped_before_its_turn_does_not_begin(bench: Bench) -> None:
    await bench.request()
    await bench.claims.cancel(JOB, CANCEL)

    await bench.work()

    assert await bench.claims.claim(JOB) is None
    assert bench.asked == []
    assert bench.resumed == []
    await assert_silence(bench)


async def test_result_that_is_ready_a_moment_after_the_stop_is_not_published(bench: Bench) -> None:
    await bench.request()

    async def act(_observer: Observer, _box: Sandbox) -> None:
        await bench.claims.cancel(JOB, CANCEL)

    await bench.work(act)

    await assert_silence(bench)


async def test_attempt_that_would_be_tried_again_is_not(bench: Bench) -> None:
    """Killed, or sent away by the model: the message comes back, and finds the stop."""
    await bench.request()

    async def act(_observer: Observer, _box: Sandbox) -> None:
        raise Retry("the model is away")

    with pytest.raises(Retry):
        await bench.work(act)
    await bench.claims.cancel(JOB, CANCEL)
    await bench.work(act)

    assert len(bench.resumed) == 1
    await assert_silence(bench)


async def test_stop_of_another_job_ends_nothing(bench: Bench) -> None:
    await bench.request()
    await bench.claims.cancel(f"{JOB}0", CANCEL)

    await bench.work()

    assert await bench.change() is not None
