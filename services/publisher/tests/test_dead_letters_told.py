"""Never silence: whatever becomes a dead letter of a job, its issue says so once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from harness.stored import messages_of
from patchwright_common import flow
from patchwright_common.bus import Bus
from patchwright_common.flow import Consumer
from patchwright_common.messaging import Delivery
from patchwright_common.pull import PullLoop

from .service import World

TOLD = [c for c in flow.consumers() if c.policy.tells_user and c.policy.limit is not None]
"""The others with a limit are courtesies; what has none never becomes a job's dead letter."""


@asynccontextmanager
async def consuming(bus: Bus, consumer: Consumer) -> AsyncIterator[None]:
    """As its service, which does not run here; the publisher does."""
    payload = flow.route_of(consumer).payload
    assert payload is not None

    async def read(delivery: Delivery) -> None:
        delivery.read(payload)

    if consumer.service == "publisher":
        yield
        return
    task = asyncio.create_task(PullLoop(bus, consumer, read).run())
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1)


async def letters(bus: Bus, job_id: str) -> list[dict[str, str]]:
    """The headers of the job's dead letters."""
    found = messages_of(bus.js, "PW_DLQ", f"pw.dlq.*.*.*.{job_id}")
    return [letter.headers or {} async for letter in found]


def test_there_is_such_a_consumer_for_each_step_of_a_job() -> None:
    services = {consumer.service for consumer in TOLD}
    assert services >= {"runner", "publisher"}
    assert {"runner-job-readied", "publisher-change-produced"} <= {c.name for c in TOLD}


@pytest.mark.parametrize("consumer", TOLD, ids=lambda consumer: consumer.name)
async def test_dead_letter_of_a_job_is_one_comment_with_its_trace(
    world: World, consumer: Consumer
) -> None:
    job = await world.job()
    route = flow.route_of(consumer)
    async with consuming(world.bus, consumer):
        await world.bus.publish(route, (job.id,), b"{}", message_id=f"{job.id}:malformed")
        finished = await job.finished()
        # And again, as after a crash: the dead letter and its event are there already.
        await world.bus.publish(route, (job.id,), b"{}", message_id=f"{job.id}:again")
        deadline = time.monotonic() + 20
        while len(found := await letters(world.bus, job.id)) < 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
    assert finished.result == "failure"
    [comment] = await job.comments()
    assert found[0]["Patchwright-Trace"] in comment
    assert "internal message was malformed" in comment
