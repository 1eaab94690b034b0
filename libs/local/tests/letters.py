"""Real dead letters: a consumer's loop with a handler that fails until its cause is mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nats.js.errors import NotFoundError

from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent
from patchwright_common.events import JobReadied, JobRequested, Repository
from patchwright_common.flow import DELIVERY_RECEIVED, JOB_READIED, Consumer, route_of
from patchwright_common.messaging import Delivery
from patchwright_common.pull import PullLoop

JOB = "7-1-issue-1"
BODY = '{"action": "labeled", "text": "{{Count}} {{ Random 3 9 }} é"}\n'.encode()


@dataclass
class Handler:
    """Notes what it handled; fails for good while `broken`."""

    broken: bool = True
    handled: list[Delivery] = field(default_factory=list)

    async def __call__(self, delivery: Delivery) -> None:
        if self.broken:
            raise Permanent("The disk\nis \x1b[31mfull.")
        self.handled.append(delivery)


@asynccontextmanager
async def consuming(bus: Bus, consumer: Consumer) -> AsyncIterator[Handler]:
    """As the service does, with that handler."""
    handler = Handler()
    task = asyncio.create_task(PullLoop(bus, consumer, handler).run())
    try:
        yield handler
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():
            await asyncio.sleep(0.02)


async def count(bus: Bus, stream: str) -> int:
    return int((await bus.js.stream_info(stream)).state.messages)


async def settled(bus: Bus, consumer: Consumer) -> None:
    """Return when it holds no message and none waits for it."""

    async def empty() -> bool:
        info = await bus.js.consumer_info(route_of(consumer).stream.name, consumer.name)
        return info.num_ack_pending == 0 and info.num_pending == 0

    await until(empty)


async def letter(bus: Bus, consumer: Consumer) -> int:
    """The newest dead letter's number, once the consumer is done."""
    await settled(bus, consumer)
    return int((await bus.js.stream_info("PW_DLQ")).state.last_seq)


async def deliver(
    bus: Bus, guid: str = "d-1", *, event: str = "issues", body: bytes = BODY, **more: str
) -> int:
    """As ingest stores a delivery; its sequence."""
    headers = {"x-github-delivery": guid, "x-github-event": event}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    tokens = (event, "labeled" if event == "issues" else "created", "7")
    stored = await bus.publish(DELIVERY_RECEIVED, tokens, body, message_id=guid, headers=headers)
    return int(stored or 0)


async def request(bus: Bus, job_id: str = JOB, delivery_id: str = "d-1") -> None:
    """Triage's record of a job, and its turn."""
    await bus.record(
        JobRequested(
            job_id=job_id,
            repository=Repository(
                id=7,
                full_name="octo/greeter",
                clone_url="https://github.test/octo/greeter.git",
                default_branch="main",
                installation_id=3,
            ),
            issue_number=1,
            title="Greet politely",
            body="",
            sender="ada",
            base="a" * 40,
            attempt=1,
            delivery_id=delivery_id,
            requested_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    )
    await bus.emit(JOB_READIED, JobReadied(job_id=job_id), step="ready")


async def held(bus: Bus, sequence: int) -> bool:
    """Whether the dead letter is still there."""
    try:
        await bus.js.get_msg("PW_DLQ", seq=sequence)
    except NotFoundError:
        return False
    return True
