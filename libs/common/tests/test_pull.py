"""The loop behind every consumer: into free slots only, heartbeats at once, back when stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.events import JobReadied
from patchwright_common.flow import JOB_READIED, RUNNER_JOB_READIED
from patchwright_common.messaging import Delivery, Handler
from patchwright_common.pull import PullLoop


@asynccontextmanager
async def _running(bus: Bus, handle: Handler, *, slots: int) -> AsyncIterator[asyncio.Task[None]]:
    loop = PullLoop(bus, RUNNER_JOB_READIED, handle, slots=slots)
    task = asyncio.create_task(loop.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _ready(bus: Bus, *jobs: str) -> None:
    for job in jobs:
        await bus.emit(JOB_READIED, JobReadied(job_id=job), step="", once=True)


async def _pending(bus: Bus) -> tuple[int, int]:
    info = await bus.js.consumer_info("PW_EVENTS", RUNNER_JOB_READIED.name)
    return info.num_pending or 0, info.num_ack_pending or 0


async def _until(condition: asyncio.Event) -> None:
    await asyncio.wait_for(condition.wait(), 10)


async def test_no_more_is_fetched_than_there_are_free_slots(bus: Bus) -> None:
    started: list[str] = []
    two, release = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        started.append(delivery.job_id)
        if len(started) == 2:
            two.set()
        await release.wait()

    await _ready(bus, "a", "b", "c")
    async with _running(bus, handle, slots=2):
        await _until(two)
        await asyncio.sleep(0.2)
        assert await _pending(bus) == (1, 2)
        release.set()
        async with asyncio.timeout(10):
            while await _pending(bus) != (0, 0):
                await asyncio.sleep(0.02)
    assert sorted(started) == ["a", "b", "c"]


async def test_short_job_does_not_wait_behind_a_long_one(bus: Bus) -> None:
    short, release = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if delivery.job_id == "long":
            await release.wait()
        else:
            short.set()

    async with _running(bus, handle, slots=2):
        await _ready(bus, "long", "short")
        await _until(short)
        release.set()


async def test_stopped_runner_hands_its_job_back_at_once(bus: Bus) -> None:
    first, second = asyncio.Event(), asyncio.Event()

    async def forever(_delivery: Delivery) -> None:
        first.set()
        await asyncio.sleep(60)

    async def take_over(_delivery: Delivery) -> None:
        second.set()

    await _ready(bus, "job")
    async with _running(bus, forever, slots=1):
        await _until(first)
    async with _running(bus, take_over, slots=1):
        await asyncio.wait_for(second.wait(), RUNNER_JOB_READIED.ack_wait / 3)


async def test_loop_goes_on_after_the_bus_was_away(bus: Bus, nats: NatsServer) -> None:
    seen = asyncio.Event()

    async def handle(_delivery: Delivery) -> None:
        seen.set()

    async with _running(bus, handle, slots=1) as task:
        await asyncio.sleep(0.2)
        await nats.stop()
        await asyncio.sleep(0.5)
        await nats.start()
        async with asyncio.timeout(10):
            while not bus.client.is_connected:
                await asyncio.sleep(0.05)
        await _ready(bus, "later")
        await asyncio.wait_for(seen.wait(), 20)
        assert not task.done()


async def test_handlers_put_their_things_away_even_when_it_is_asked_to_end_again(bus: Bus) -> None:
    started = asyncio.Event()
    ends: list[str] = []

    async def handle(delivery: Delivery) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.3)
            ends.append(delivery.job_id)

    await _ready(bus, "a")
    async with _running(bus, handle, slots=1) as task:
        await _until(started)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ends == ["a"]
