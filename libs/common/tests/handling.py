"""What the tests of the delivery rules share: scripted handlers, and looks at the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from nats.aio.msg import Msg
from nats.js import api

from harness.nats import NatsServer, connected
from harness.stored import messages_of
from patchwright_common.bus import Bus
from patchwright_common.events import JobFailed, JobReadied, JobRequested, Repository
from patchwright_common.flow import (
    JOB_FAILED,
    JOB_READIED,
    PW_DLQ,
    PW_EVENTS,
    RUNNER_JOB_READIED,
    Consumer,
    RetryPolicy,
    route_of,
)
from patchwright_common.messaging import Delivery, Handler
from patchwright_common.pull import PullLoop

JOB = "7-1-i-1"
BRISK = RetryPolicy("brisk", (0.3, 0.6), limit=3)
READIED = replace(RUNNER_JOB_READIED, policy=BRISK, time_limit=30.0)
"""The runner's consumer with a policy that a test can wait for."""
DEAD = f"pw.dlq.runner.job.readied.{JOB}"
FAILED = f"pw.evt.job.failed.{JOB}"

Act = Callable[[Delivery], Awaitable[None]] | Exception | None


async def answer_onto(nats: NatsServer, stream: str, subject: str, *, times: int = 1) -> None:
    """Let the server answer ingest onto a subject of that stream, to which ingest may not write."""
    async with connected(nats.url) as client, nats.known_as("ingest") as ingest:
        js = client.jetstream(timeout=5)
        before = (await js.stream_info(stream)).state.last_seq
        for _ in range(times):
            question = "$JS.API.STREAM.INFO.OBJ_PW_DELIVERIES"
            await ingest.client.publish(question, b"", reply=subject)
        await ingest.client.flush()
        async with asyncio.timeout(10):
            while (await js.stream_info(stream)).state.last_seq < before + times:
                await asyncio.sleep(0.01)


class Script:
    """A handler that notes every delivery and does what its acts say; the last one repeats."""

    def __init__(self, *acts: Act) -> None:
        self._acts = acts
        self.seen: list[Delivery] = []
        self.at: list[float] = []

    async def __call__(self, delivery: Delivery) -> None:
        act = self._acts[min(len(self.seen), len(self._acts) - 1)]
        self.seen.append(delivery)
        self.at.append(time.monotonic())
        if isinstance(act, Exception):
            raise act
        if act is not None:
            await act(delivery)

    async def called(self, times: int) -> None:
        """Return when it was called that often."""

        async def enough() -> bool:
            return len(self.seen) >= times

        await until(enough)

    def gap(self, number: int) -> float:
        """Seconds between call `number` (from 1) and the next one."""
        return self.at[number] - self.at[number - 1]


@asynccontextmanager
async def by_pulling(
    bus: Bus, consumer: Consumer, handle: Handler
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """As the services do; yields what stops it."""
    task = asyncio.create_task(PullLoop(bus, consumer, handle).run())

    async def stop() -> None:
        # Again where it got lost: `asyncio.wait_for` drops a cancellation that comes together
        # with the result (https://github.com/python/cpython/issues/86296, mended in 3.12).
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=1)

    try:
        yield stop
    finally:
        await stop()
        if not task.cancelled():
            task.result()


async def until(true: Callable[[], Awaitable[bool]], *, timeout: float = 15.0) -> None:
    """Return when it is true; raises TimeoutError when it never becomes so."""
    async with asyncio.timeout(timeout):
        while not await true():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def paused(nats: NatsServer) -> AsyncIterator[None]:
    """The server is connected and silent; a stop signal takes a moment to reach each thread."""
    nats.pause()
    process = nats._process
    assert process is not None
    threads = Path(f"/proc/{process.pid}/task")

    async def still() -> bool:
        states = [(t / "stat").read_text().rpartition(")")[2].split()[0] for t in threads.iterdir()]
        return set(states) == {"T"}

    try:
        await until(still)
        yield
    finally:
        nats.wake()


async def settled(bus: Bus, consumer: Consumer) -> None:
    """Return when the consumer holds no message and none waits for it."""

    async def empty() -> bool:
        info = await bus.js.consumer_info(route_of(consumer).stream.name, consumer.name)
        return info.num_ack_pending == 0 and info.num_pending == 0

    await until(empty)


async def set_ack_wait(bus: Bus, consumer: Consumer, seconds: float) -> Consumer:
    """Give the durable and our picture of it a wait that a test has time for."""
    stream = route_of(consumer).stream.name
    config = (await bus.js.consumer_info(stream, consumer.name)).config
    await bus.js.add_consumer(stream, config.evolve(ack_wait=seconds))
    return replace(consumer, ack_wait=seconds)


async def ready(bus: Bus, job_id: str = JOB) -> int:
    """Publish JobReadied; returns its sequence."""
    sequence = await bus.emit(JOB_READIED, JobReadied(job_id=job_id), step="ready")
    assert sequence is not None
    return sequence


async def messages(bus: Bus, subject: str) -> list[api.RawStreamMsg]:
    """Everything stored under a subject or pattern, in order."""
    stream = PW_DLQ if subject.startswith("pw.dlq.") else PW_EVENTS
    return [message async for message in messages_of(bus.js, stream.name, subject)]


async def failures(bus: Bus) -> list[JobFailed]:
    """Every JobFailed of the job."""
    stored = await messages(bus, JOB_FAILED.subject(JOB))
    return [JobFailed.model_validate_json(m.data or b"") for m in stored]


async def fetch(bus: Bus, consumer: Consumer, *, timeout: float = 5.0) -> Msg:
    """One message, as the runner takes it. Raises TimeoutError when there is none."""
    subscription = await bus.js.pull_subscribe_bind(
        durable=consumer.name, stream=route_of(consumer).stream.name
    )
    [message] = await subscription.fetch(1, timeout=timeout)
    return message


def requested(job_id: str = JOB) -> JobRequested:
    """A job's record."""
    return JobRequested(
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
        body="Say please.",
        sender="ada",
        base="a" * 40,
        attempt=1,
        delivery_id="d-1",
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
