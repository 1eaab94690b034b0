"""Streams that fill up: an alarm before, nothing lost after, and results before new work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from nats.js.errors import ServiceUnavailableError

from harness.nats import NatsServer
from patchwright_common import flow, storage
from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import JobReadied, JobStarted
from patchwright_common.messaging import Delivery
from patchwright_common.storage import Fill, Gauge, RoomForJobs, fill

from .handling import (
    JOB,
    READIED,
    Script,
    by_pulling,
    failures,
    messages,
    paused,
    ready,
    set_ack_wait,
    settled,
    until,
)

ROOM = 40_000
"""Bytes of a stream that a test can fill."""


async def limit(bus: Bus, stream: str, size: int) -> None:
    config = (await bus.js.stream_info(stream)).config
    await bus.js.update_stream(config.evolve(max_bytes=size))


async def fill_up(bus: Bus, subject: str, stream: str, *, share: float = 1.0) -> None:
    """Until it takes no more, or has that share; `subject` has a place for a number."""
    size, number = 500, 0
    while size > 1 and (await fill(bus.js, stream)).share < share:
        number += 1
        try:
            await bus.js.publish(subject.format(number), b"x" * size, stream=stream)
        except ServiceUnavailableError:
            size //= 4


async def test_alarm_is_said_once_and_taken_back(bus: Bus, said: Callable[[], str]) -> None:
    await limit(bus, "PW_DLQ", ROOM)
    gauge = Gauge(bus.js, ["PW_DLQ", "PW_EVENTS"])
    await gauge.look()
    assert gauge.alarms == []
    await fill_up(bus, "pw.dlq.triage.a.b.{}", "PW_DLQ", share=storage.ALARM)
    await gauge.look()
    await gauge.look()
    [alarm] = gauge.alarms
    assert alarm.startswith("PW_DLQ is 8")
    assert said().count("PW_DLQ is 8") == 1
    await bus.js.purge_stream("PW_DLQ")
    await gauge.look()
    assert gauge.alarms == []
    assert "there is room again" in said()


async def test_each_service_may_look_at_what_it_watches(nats: NatsServer) -> None:
    watched = set()
    for service in ("ingest", "triage", "vault", "runner", "publisher"):
        async with nats.known_as(service) as own:
            for name in flow.watched(service):
                assert (await fill(own.js, name)).limit > 0
                watched.add(name)
    everything = {s.name for s in flow.STREAMS} | {b.stream for b in flow.BUCKETS}
    assert watched == everything, "somebody watches each of them"


async def test_silent_server_raises_no_alarm_and_ends_nothing(nats: NatsServer, bus: Bus) -> None:
    gauge = Gauge(bus.js, ["PW_EVENTS"])
    bus.js._timeout = 0.2
    async with paused(nats):
        await gauge.look()
        assert gauge.alarms == []
        with pytest.raises(Retry):
            await RoomForJobs(bus.js, flow.JOB_STORES).check()


def test_stream_without_a_limit_is_never_full() -> None:
    assert Fill("x", 10**12, 0).share == 0


@pytest.mark.parametrize("store", flow.JOB_STORES)
async def test_new_jobs_are_held_before_any_of_their_stores_is_full(bus: Bus, store: str) -> None:
    room = RoomForJobs(bus.js, flow.JOB_STORES)
    await room.check()
    config = (await bus.js.stream_info(store)).config
    subject = (config.subjects or [""])[0].replace(">", "{}")
    await limit(bus, store, ROOM)
    await fill_up(bus, subject, store, share=storage.SPARE)
    with pytest.raises(Retry, match=f"no new job begins: {store}") as held:
        await RoomForJobs(bus.js, flow.JOB_STORES).check()
    assert held.value.after == storage.HOLD
    await room.check()  # what was found a moment ago holds a little longer


async def test_full_events_are_waited_for_and_then_go_on(bus: Bus) -> None:
    """Neither the event nor the message that led to it is lost."""
    told: list[int] = []

    async def work(delivery: Delivery) -> None:
        await bus.emit(flow.JOB_STARTED, _started(), step="started")
        told.append(delivery.delivered)

    await ready(bus)
    await limit(bus, "PW_EVENTS", ROOM)
    await fill_up(bus, "pw.evt.egress.allowed.{}", "PW_EVENTS")
    script = Script(work)
    async with by_pulling(bus, READIED, script):
        await script.called(2)
        assert told == []
        await limit(bus, "PW_EVENTS", 10 * ROOM)
        await settled(bus, READIED)
    assert len(told) == 1
    assert len(await messages(bus, f"pw.evt.job.started.{JOB}")) == 1


async def test_failure_waits_for_room_when_the_tries_are_used_up(bus: Bus) -> None:
    """The dead letter is written, JobFailed finds no room: the user is told when there is some."""
    await ready(bus)
    await limit(bus, "PW_EVENTS", ROOM)
    await fill_up(bus, "pw.evt.egress.allowed.{}", "PW_EVENTS")
    script = Script(Permanent("It cannot be done."))
    brief = await _brief(bus)
    async with by_pulling(bus, brief, script):
        await script.called(2)
        assert await failures(bus) == []
        await limit(bus, "PW_EVENTS", 10 * ROOM)
        await settled(bus, brief)
    [failure] = await failures(bus)
    assert failure.reason == "It cannot be done."
    assert len(await messages(bus, f"pw.dlq.runner.job.readied.{JOB}")) == 1


async def test_full_dead_letters_hold_up_nobody_and_lose_nothing(bus: Bus) -> None:
    await limit(bus, "PW_DLQ", ROOM)
    await fill_up(bus, "pw.dlq.triage.a.b.{}", "PW_DLQ")
    handled: list[str] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.job_id == JOB:
            raise Permanent("It cannot be done.")
        handled.append(delivery.job_id)

    brief = await _brief(bus)
    await ready(bus)
    async with by_pulling(bus, brief, handle):
        await ready(bus, "7-2-i-1")

        async def behind() -> bool:
            return handled == ["7-2-i-1"]

        await until(behind)
        assert await failures(bus) == []
        await limit(bus, "PW_DLQ", 10 * ROOM)
        await settled(bus, brief)
    assert len(await failures(bus)) == 1


async def _brief(bus: Bus) -> flow.Consumer:
    """What could not be settled comes back after a second."""
    return await set_ack_wait(bus, READIED, 1.0)


def _started() -> JobStarted:
    return JobStarted(job_id=JOB, epoch=1, runner="r", sandbox="s")


async def test_readied_job_is_not_lost_in_a_full_stream(bus: Bus) -> None:
    await limit(bus, "PW_EVENTS", ROOM)
    await fill_up(bus, "pw.evt.egress.allowed.{}", "PW_EVENTS")
    with pytest.raises(Retry, match="maximum bytes exceeded"):
        await bus.emit(flow.JOB_READIED, JobReadied(job_id=JOB), step="", once=True)
    await limit(bus, "PW_EVENTS", 10 * ROOM)
    assert await bus.emit(flow.JOB_READIED, JobReadied(job_id=JOB), step="", once=True)
