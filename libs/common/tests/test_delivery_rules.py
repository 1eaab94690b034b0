"""What a handler did decides what the broker is told, however the message was fetched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.errors import Overtaken, Permanent, Retry
from patchwright_common.events import JobReadied
from patchwright_common.flow import (
    DEAD_LETTER,
    DELIVERY_RECEIVED,
    ENDLESS,
    JOB_FAILED,
    JOB_READIED,
    PUBLISHER_JOB_FAILED,
    TRIAGE_DELIVERY_RECEIVED,
)
from patchwright_common.messaging import JITTER, Delivery

from .handling import (
    DEAD,
    FAILED,
    JOB,
    READIED,
    Script,
    by_pulling,
    failures,
    messages,
    ready,
    set_ack_wait,
    settled,
    until,
)

SLACK = 0.4
"""Seconds that a busy machine may add to a delay."""


async def test_message_is_acknowledged_only_after_the_effect(nats: NatsServer, bus: Bus) -> None:
    async def look(delivery: Delivery) -> None:
        info = await bus.js.consumer_info("PW_EVENTS", READIED.name)
        pending.append(info.num_ack_pending)

    pending: list[int | None] = []
    handle = Script(look)
    async with by_pulling(bus, READIED, handle):
        await ready(bus)
        await handle.called(1)
        await settled(bus, READIED)
    assert pending == [1]
    assert len(handle.seen) == 1


async def test_retry_comes_back_after_the_delays_of_its_policy(nats: NatsServer, bus: Bus) -> None:
    handle = Script(Retry("GitHub is away"), Retry("still away"), None)
    async with by_pulling(bus, READIED, handle):
        await ready(bus)
        await handle.called(3)
        await settled(bus, READIED)
    assert [d.delivered for d in handle.seen] == [1, 2, 3]
    for number, delay in enumerate(READIED.policy.delays, start=1):
        assert delay <= handle.gap(number) + 0.01
        assert handle.gap(number) < delay * (1 + JITTER) + SLACK
    assert await messages(bus, "pw.dlq.>") == []


async def test_one_that_wakes_up_behind_its_time_leaves_the_message_to_whoever_has_it(
    nats: NatsServer, bus: Bus
) -> None:
    """Its word would hand the message out once more, beside the one at work on it."""

    async def stand_still(_delivery: Delivery) -> None:
        time.sleep(1.5)
        raise Retry("something took too long")

    async def work(_delivery: Delivery) -> None:
        await asyncio.sleep(2.0)

    handle = Script(stand_still, work)
    impatient = await set_ack_wait(bus, READIED, 1.0)
    async with by_pulling(bus, impatient, handle):
        await ready(bus)
        await handle.called(2)
        await settled(bus, impatient)
    assert [d.delivered for d in handle.seen] == [1, 2]


async def test_retry_comes_back_when_the_server_said_so(nats: NatsServer, bus: Bus) -> None:
    handle = Script(Retry("rate limited", after=1.0), Retry("at once", after=-3), None)
    async with by_pulling(bus, READIED, handle):
        await ready(bus)
        await handle.called(3)
    assert handle.gap(1) >= 0.99
    assert handle.gap(2) < 0.3


async def test_absurd_wait_is_bounded_and_holds(nats: NatsServer, bus: Bus) -> None:
    """A number that the server cannot read would be no wait at all, but `ack_wait`."""
    consumer = await set_ack_wait(bus, READIED, 0.4)
    handle = Script(Retry("come back", after=float("inf")))
    async with by_pulling(bus, consumer, handle):
        await ready(bus)
        await handle.called(1)
        await asyncio.sleep(1.0)
    assert len(handle.seen) == 1


@pytest.mark.parametrize("error", [KeyError("x"), TimeoutError(), asyncio.CancelledError()])
async def test_error_that_nobody_foresaw_is_a_retry(
    nats: NatsServer, bus: Bus, error: BaseException
) -> None:
    async def fail(delivery: Delivery) -> None:
        raise error

    handle = Script(fail, None)
    async with by_pulling(bus, READIED, handle):
        await ready(bus)
        await handle.called(2)
        await settled(bus, READIED)
    assert READIED.policy.delays[0] <= handle.gap(1) + 0.01
    assert await messages(bus, "pw.dlq.>") == []


async def test_permanent_failure_is_kept_told_and_never_tried_again(
    nats: NatsServer, bus: Bus
) -> None:
    handle = Script(Permanent("The base\nis gone.", advice="Push it."))
    async with by_pulling(bus, READIED, handle):
        sequence = await ready(bus)
        await settled_with_failure(bus)
        await asyncio.sleep(0.5)
    [letter] = await messages(bus, DEAD)
    [failed] = await failures(bus)
    assert len(handle.seen) == 1
    assert letter.data == JobReadied(job_id=JOB).model_dump_json().encode()
    assert letter.headers is not None
    assert letter.headers["Patchwright-Reason"] == "The base is gone."
    assert letter.headers["Patchwright-Subject"] == f"pw.evt.job.readied.{JOB}"
    assert letter.headers["Patchwright-Sequence"] == str(sequence)
    assert letter.headers["Patchwright-Delivered"] == "1"
    assert (failed.reason, failed.advice) == ("The base\nis gone.", "Push it.")
    assert (failed.stage, failed.sequence, failed.epoch) == (READIED.name, sequence, None)
    assert failed.trace_id == letter.headers["Patchwright-Trace"]


async def test_details_are_told_and_stay_out_of_logs_and_dead_letters(
    nats: NatsServer, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    async with by_pulling(bus, READIED, Script(Permanent("It failed.", details="    private"))):
        await ready(bus)
        await settled_with_failure(bus)
    [letter], [failed] = await messages(bus, DEAD), await failures(bus)
    assert failed.reason == "It failed.\n\n    private"
    assert "private" not in str(letter.headers)
    assert "private" not in caplog.text


async def settled_with_failure(bus: Bus) -> None:
    async def told() -> bool:
        return bool(await messages(bus, FAILED))

    await until(told)
    await settled(bus, READIED)


async def test_dead_letter_is_written_before_the_user_is_told(nats: NatsServer, bus: Bus) -> None:
    async with by_pulling(bus, READIED, Script(Permanent("No."))):
        await ready(bus)
        await settled_with_failure(bus)
    [letter], [told] = await messages(bus, DEAD), await messages(bus, FAILED)
    assert letter.time is not None
    assert told.time is not None
    assert letter.time < told.time


async def test_message_whose_retries_are_used_up_ends_as_a_failure(
    nats: NatsServer, bus: Bus
) -> None:
    handle = Script(Retry("GitHub is away"))
    async with by_pulling(bus, READIED, handle):
        await ready(bus)
        await settled_with_failure(bus)
    [letter] = await messages(bus, DEAD)
    [failed] = await failures(bus)
    assert len(handle.seen) == READIED.policy.limit == 3
    assert letter.headers is not None
    assert letter.headers["Patchwright-Delivered"] == "3"
    assert failed.reason == "It failed 3 times; the last time: GitHub is away"


async def test_giving_up_on_a_courtesy_does_not_end_the_job(nats: NatsServer, bus: Bus) -> None:
    courteous = replace(READIED, policy=replace(READIED.policy, tells_user=False))
    async with by_pulling(bus, courteous, Script(Permanent("The issue is locked."))):
        await ready(bus)

        async def kept() -> bool:
            return bool(await messages(bus, DEAD))

        await until(kept)
        await settled(bus, READIED)
    assert await failures(bus) == []


async def test_overtaken_handler_says_nothing(nats: NatsServer, bus: Bus) -> None:
    consumer = await set_ack_wait(bus, READIED, 0.8)
    handle = Script(Overtaken("epoch 2 exists"), None)
    async with by_pulling(bus, consumer, handle):
        await ready(bus)
        await handle.called(2)
        await settled(bus, READIED)
    assert handle.gap(1) >= 0.75
    assert await messages(bus, "pw.dlq.>") == []
    assert await failures(bus) == []


async def test_message_of_a_service_that_stops_is_handed_back_at_once(
    nats: NatsServer, bus: Bus
) -> None:
    async def work(delivery: Delivery) -> None:
        await asyncio.sleep(60)

    first, second = Script(work), Script(None)
    async with by_pulling(bus, READIED, first) as stop:
        await ready(bus)
        await first.called(1)
        await stop()
    async with by_pulling(bus, READIED, second):
        await second.called(1)
    assert second.at[0] - first.at[0] < 5 < READIED.ack_wait
    assert second.seen[0].delivered == 2


async def test_heartbeats_keep_a_slow_handlers_message(nats: NatsServer, bus: Bus) -> None:
    async def work(delivery: Delivery) -> None:
        await asyncio.sleep(2.0)

    consumer = await set_ack_wait(bus, READIED, 0.6)
    handle = Script(work)
    async with by_pulling(bus, consumer, handle), by_pulling(bus, consumer, handle):
        await ready(bus)
        await handle.called(1)
        await settled(bus, READIED)
    assert len(handle.seen) == 1


async def test_handler_beyond_its_time_limit_is_stopped_and_tried_again(
    nats: NatsServer, bus: Bus
) -> None:
    async def hang(delivery: Delivery) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(delivery.delivered)

    stopped: list[int] = []
    consumer = replace(READIED, time_limit=0.2, policy=replace(READIED.policy, limit=1))
    async with by_pulling(bus, consumer, Script(hang)):
        await ready(bus)
        await settled_with_failure(bus)
    [failed] = await failures(bus)
    assert stopped == [1]
    assert failed.reason == "It failed 1 times; the last time: took over 0 s"


async def test_timeout_inside_a_handler_is_not_taken_for_the_time_limit(
    nats: NatsServer, bus: Bus
) -> None:
    consumer = replace(READIED, policy=replace(READIED.policy, limit=1))
    async with by_pulling(bus, consumer, Script(TimeoutError())):
        await ready(bus)
        await settled_with_failure(bus)
    [failed] = await failures(bus)
    assert failed.reason == "It failed 1 times; the last time: TimeoutError"


@pytest.mark.parametrize(
    "body",
    [b"token ghp_Zq7 of nobody", b'{"job_id": "ghp_Zq7_x"}', b'{"job_id": 7, "x": "ghp_Zq7"}', b""],
)
async def test_malformed_body_is_never_quoted(
    nats: NatsServer,
    bus: Bus,
    body: bytes,
    said: Callable[[], str],
) -> None:
    async def read(delivery: Delivery) -> None:
        delivery.read(JobReadied)

    async with by_pulling(bus, READIED, Script(read)):
        typed = {"content-type": "application/json"}
        await bus.js.publish(f"pw.evt.job.readied.{JOB}", body, headers=typed)
        await settled_with_failure(bus)
    [letter] = await messages(bus, DEAD)
    [failed] = await failures(bus)
    assert (letter.data or b"") == body
    assert "ghp_Zq7" not in said()
    assert "ghp_Zq7" not in str(letter.headers) + failed.model_dump_json()
    assert "malformed" in failed.reason


async def test_event_that_names_another_job_fails_the_job_of_its_subject(
    nats: NatsServer, bus: Bus
) -> None:
    async def read(delivery: Delivery) -> None:
        delivery.read(JobReadied)

    other = JobReadied(job_id="8-1-i-1").model_dump_json().encode()
    async with by_pulling(bus, READIED, Script(read)):
        await bus.js.publish(f"pw.evt.job.readied.{JOB}", other)
        await settled_with_failure(bus)
    [failed] = await failures(bus)
    assert failed.job_id == JOB
    assert "another job" in failed.reason
    assert len(await messages(bus, "pw.evt.job.failed.*")) == 1


@pytest.mark.parametrize("token", ["a_b", "a$b", "x" * 65, "é"])
async def test_event_of_no_possible_job_ends_as_a_dead_letter(
    nats: NatsServer, bus: Bus, token: str
) -> None:
    async with by_pulling(bus, READIED, Script(Permanent("Unknown."))):
        await bus.js.publish(f"pw.evt.job.readied.{token}", b"{}")

        async def kept() -> bool:
            return bool(await messages(bus, "pw.dlq.runner.job.readied.none"))

        await until(kept)
        await settled(bus, READIED)
    assert await messages(bus, "pw.evt.job.failed.*") == []


async def test_failure_to_report_is_never_dropped(nats: NatsServer, bus: Bus) -> None:
    brief = replace(PUBLISHER_JOB_FAILED, policy=replace(ENDLESS, delays=(0.1,)))
    acts = [Permanent("No."), Retry("No."), ValueError(), Permanent("No."), None]
    handle = Script(*acts)
    async with by_pulling(bus, brief, handle):
        await bus.js.publish(JOB_FAILED.subject(JOB), b"not even JSON")
        await handle.called(len(acts))
        await settled(bus, brief)
    assert len(handle.seen) == len(acts)
    assert await messages(bus, "pw.dlq.>") == []
    assert len(await messages(bus, FAILED)) == 1


async def test_raw_delivery_becomes_a_dead_letter_of_no_job(nats: NatsServer, bus: Bus) -> None:
    body = b"\x00 byte for byte \xff"
    sent = {
        "X-GitHub-Event": "issues",
        "X-GitHub-Delivery": "d-1",
        "Patchwright-Body-Sha256": "ab" * 32,
    }
    handle = Script(Permanent("Not JSON."))
    async with by_pulling(bus, TRIAGE_DELIVERY_RECEIVED, handle):
        await bus.publish(
            DELIVERY_RECEIVED, ("issues", "opened", "7"), body, message_id="d-1", headers=sent
        )

        async def kept() -> bool:
            return bool(await messages(bus, "pw.dlq.>"))

        await until(kept)
        await settled(bus, TRIAGE_DELIVERY_RECEIVED)
    [letter] = await messages(bus, "pw.dlq.>")
    assert letter.subject == "pw.dlq.triage.delivery.received.none"
    assert letter.data == body
    assert letter.headers is not None
    assert sent.items() <= letter.headers.items()
    assert letter.headers["Patchwright-Subject"] == "pw.github.issues.opened.7"
    assert await messages(bus, "pw.evt.>") == []


async def test_dead_letter_of_a_message_sent_once_is_not_refused(
    nats: NatsServer, bus: Bus
) -> None:
    """What the original expected of its own stream must not be asked of the dead letters'."""
    earlier = ("runner", "job", "readied", JOB)
    await bus.publish(DEAD_LETTER, earlier, b"an earlier one", message_id="earlier")
    async with by_pulling(bus, READIED, Script(Permanent("No."))):
        await bus.emit(JOB_READIED, JobReadied(job_id=JOB), step="", once=True)
        await settled_with_failure(bus)
    assert len(await messages(bus, DEAD)) == 2


async def test_reason_that_cannot_be_encoded_still_reaches_the_user(
    nats: NatsServer, bus: Bus
) -> None:
    """File names that are not UTF-8 come as lone surrogates."""
    reason = "No file \udcff\r\nX-Injected: yes " + "long " * 1000
    async with by_pulling(bus, READIED, Script(Permanent(reason, advice="\udcff"))):
        await ready(bus)
        await settled_with_failure(bus)
    [letter] = await messages(bus, DEAD)
    [failed] = await failures(bus)
    assert letter.headers is not None
    assert "X-Injected" not in letter.headers
    assert len(letter.headers["Patchwright-Reason"]) == 1000
    assert failed.reason == reason.replace("\udcff", "?")


async def test_largest_message_still_ends_as_a_failure(nats: NatsServer, bus: Bus) -> None:
    body = b"x" * (bus.client.max_payload - 100)
    async with by_pulling(bus, READIED, Script(Permanent("Far too long."))):
        sequence = (await bus.js.publish(f"pw.evt.job.readied.{JOB}", body)).seq
        await settled_with_failure(bus)
    [letter] = await messages(bus, DEAD)
    assert letter.headers is not None
    assert letter.headers["Patchwright-Sequence"] == str(sequence)
    assert bus.client.is_connected
