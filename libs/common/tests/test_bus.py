"""Publishing is confirmed or it is a `Retry`; objects are what their digest says."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

import pytest

from harness.nats import NatsServer, connected
from patchwright_common import telemetry
from patchwright_common.bus import EXPECTED, RECORD_LIMIT, Bus, flush
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import JobFinished, JobReadied
from patchwright_common.flow import (
    DEAD_LETTER,
    DELIVERY_RECEIVED,
    JOB_FINISHED,
    JOB_READIED,
    JOB_REQUESTED,
    PW_CHANGES,
    PW_EVENTS,
    Route,
)

from .handling import JOB, answer_onto, paused, requested

MIB = 2**20
TRIAGES = {EXPECTED: "0"}
"""By what triage's records are known."""


async def test_published_message_is_stored_byte_for_byte_with_its_headers(bus: Bus) -> None:
    body = b"\x00{not json\xff\r\n"
    sequence = await bus.publish(
        DELIVERY_RECEIVED,
        ("issues", "opened", "7"),
        body,
        message_id="d-1",
        headers={"X-GitHub-Event": "issues"},
    )
    assert sequence is not None
    stored = await bus.js.get_msg("PW_GITHUB", seq=sequence)
    assert stored.data == body
    assert stored.headers is not None
    assert stored.headers["X-GitHub-Event"] == "issues"


async def test_same_message_id_is_stored_once(bus: Bus) -> None:
    event = JobReadied(job_id=JOB)
    first = await bus.emit(JOB_READIED, event, step="a")
    again = await bus.emit(JOB_READIED, event, step="a")
    other = await bus.emit(JOB_READIED, event, step="b")
    assert first == again
    assert other == (first or 0) + 1


@pytest.mark.parametrize(
    ("service", "route", "tokens", "others"),
    [
        ("publisher", JOB_FINISHED, (JOB,), f"pw.evt.job.started.{JOB}"),
        ("triage", DEAD_LETTER, ("triage", "a", "b", "none"), "pw.dlq.runner.a.b.none"),
    ],
    ids=["event", "dead letter"],
)
async def test_message_whose_id_another_service_used_up_is_stored_all_the_same(
    nats: NatsServer, service: str, route: Route, tokens: tuple[str, ...], others: str
) -> None:
    """Ids hold for the whole stream and can be guessed."""
    async with nats.known_as("runner") as runner:
        await runner.js.publish(others, b"x", headers={"Nats-Msg-Id": "guessed"})
    async with nats.known_as(service) as bus:
        sequence = await bus.publish(route, tokens, b"real", message_id="guessed")
        assert sequence is not None
        assert await bus.stored(route.stream, sequence) == b"real"


async def test_second_message_on_a_subject_that_takes_one_is_refused(bus: Bus) -> None:
    assert await bus.emit(JOB_REQUESTED, requested(), step="", once=True) == 1
    assert await bus.emit(JOB_REQUESTED, requested(), step="", once=True) is None
    assert await bus.emit(JOB_REQUESTED, requested("8-1-i-1"), step="", once=True) == 2


async def test_exactly_one_of_twenty_creates_the_job(bus: Bus) -> None:
    made = await asyncio.gather(
        *(bus.emit(JOB_REQUESTED, requested(), step="", once=True) for _ in range(20))
    )
    assert 1 in made
    assert made.count(None) == 19


async def test_event_of_another_route_is_refused(bus: Bus) -> None:
    finished = JobFinished(job_id=JOB, result="answer", url="https://github.test")
    with pytest.raises(TypeError, match="JOB_READIED carries"):
        await bus.emit(JOB_READIED, finished, step="x")
    assert (await bus.js.stream_info("PW_EVENTS")).state.messages == 0


async def test_silent_server_is_a_retry_within_the_time_limit(nats: NatsServer, bus: Bus) -> None:
    async with paused(nats):
        began = time.monotonic()
        with pytest.raises(Retry, match="no confirmation from PW_GITHUB"):
            await bus.publish(
                DELIVERY_RECEIVED, ("issues", "opened", "7"), b"{}", message_id="d-1", timeout=0.3
            )
        assert time.monotonic() - began < 4.0  # the usual limit is 5


async def test_absent_server_is_a_retry(nats: NatsServer, bus: Bus) -> None:
    await nats.stop()
    with pytest.raises(Retry):
        await bus.publish(
            DELIVERY_RECEIVED, ("issues", "opened", "7"), b"{}", message_id="d-1", timeout=0.3
        )
    await nats.start()
    # The message is still in nats-py's buffer: "may or may not be stored".
    assert await bus.publish(DELIVERY_RECEIVED, ("issues", "opened", "7"), b"{}", message_id="d-1")


async def test_missing_stream_is_a_retry(bus: Bus) -> None:
    await bus.js.delete_stream("PW_GITHUB")
    with pytest.raises(Retry, match="PW_GITHUB"):
        await bus.publish(DELIVERY_RECEIVED, ("issues", "opened", "7"), b"{}", message_id="d-1")


async def test_full_stream_refuses_new_messages_and_keeps_the_old(bus: Bus) -> None:
    config = (await bus.js.stream_info("PW_GITHUB")).config
    await bus.js.update_stream(config.evolve(max_bytes=2000))
    tokens = ("issues", "opened", "7")
    await bus.publish(DELIVERY_RECEIVED, tokens, b"x" * 1000, message_id="d-1")
    with pytest.raises(Retry, match="PW_GITHUB refused"):
        await bus.publish(DELIVERY_RECEIVED, tokens, b"x" * 1000, message_id="d-2")
    assert (await bus.js.get_msg("PW_GITHUB", seq=1)).data == b"x" * 1000


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"x" * (MIB - 20), {}),
        (b"x" * MIB, {}),
        (b"x" * (MIB + 1), {}),
        (b"x" * (MIB - 1000), {"X-Long": "é" * 400}),
    ],
    ids=["body and own headers", "body alone", "beyond", "headers of two bytes a letter"],
)
async def test_message_beyond_the_servers_limit_is_permanent_and_keeps_the_connection(
    bus: Bus, body: bytes, headers: dict[str, str]
) -> None:
    tokens = ("issues", "opened", "7")
    with pytest.raises(Permanent, match="too large"):
        await bus.publish(DELIVERY_RECEIVED, tokens, body, message_id="d-1", headers=headers)
    assert await bus.publish(DELIVERY_RECEIVED, tokens, b"{}", message_id="d-2") == 1


async def test_largest_message_that_fits_is_taken(bus: Bus) -> None:
    headers = {"X-Long": "é" * 400}
    size = MIB
    while not bus.fits(b"x" * size, headers):
        size -= 1
    with telemetry.span("work"):
        assert await bus.publish(
            DELIVERY_RECEIVED, ("a" * 20, "b" * 20, "7"), b"x" * size,
            message_id="d" * 100, headers=headers, once=True,
        )  # fmt: skip


async def test_record_of_a_job_is_what_triage_wrote(bus: Bus) -> None:
    await bus.emit(JOB_REQUESTED, requested(), step="", once=True)
    assert await bus.job(JOB) == requested()


async def test_job_without_a_record_is_permanent(bus: Bus) -> None:
    with pytest.raises(Permanent, match="no record"):
        await bus.job(JOB)


async def test_job_with_a_malformed_record_is_permanent_and_unquoted(bus: Bus) -> None:
    await bus.js.publish(JOB_REQUESTED.subject(JOB), b'{"job_id": "ghp_Zq7"}', headers=TRIAGES)
    with pytest.raises(Permanent, match="malformed") as caught:
        await bus.job(JOB)
    assert "ghp_Zq7" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_answers_of_the_server_on_a_jobs_subject_are_not_its_record(
    nats: NatsServer, bus: Bus
) -> None:
    """Whoever asks the server something chooses the subject of the answer."""
    await answer_onto(nats, "PW_EVENTS", JOB_REQUESTED.subject(JOB), times=3)
    with pytest.raises(Permanent, match="no record"):
        await bus.job(JOB)
    assert await bus.record(requested())
    assert await bus.job(JOB) == requested()


async def test_record_behind_other_messages_is_written_once(nats: NatsServer, bus: Bus) -> None:
    await answer_onto(nats, "PW_EVENTS", JOB_REQUESTED.subject(JOB), times=2)
    made = await asyncio.gather(*(bus.record(requested()) for _ in range(20)))
    assert made.count(True) == 1
    assert (await bus.js.stream_info("PW_EVENTS")).state.messages == 3


async def test_first_record_of_two_is_the_one_that_counts(bus: Bus) -> None:
    assert await bus.record(requested())
    other = requested().model_copy(update={"title": "another"})
    body = other.model_dump_json().encode()
    await bus.js.publish(JOB_REQUESTED.subject(JOB), body, headers={**TRIAGES, EXPECTED: "1"})
    assert await bus.job(JOB) == requested()
    assert not await bus.record(other)


async def test_replayed_record_takes_nothings_place(bus: Bus) -> None:
    """Operators send it again without the server's headers."""
    body = requested().model_dump_json().encode()
    await bus.record(requested())
    await bus.js.publish(JOB_REQUESTED.subject(JOB), body, stream="PW_EVENTS")
    assert await bus.job(JOB) == requested()
    assert not await bus.record(requested())


async def test_subject_that_is_full_of_other_messages_is_permanent(
    nats: NatsServer, bus: Bus
) -> None:
    await answer_onto(nats, "PW_EVENTS", JOB_REQUESTED.subject(JOB), times=RECORD_LIMIT)
    with pytest.raises(Permanent, match="cannot be told"):
        await bus.job(JOB)
    with pytest.raises(Permanent, match="cannot be told"):
        await bus.record(requested())


async def test_stored_message_is_read_by_its_sequence(bus: Bus) -> None:
    sequence = await bus.emit(JOB_READIED, JobReadied(job_id=JOB), step="a")
    assert sequence is not None
    assert await bus.stored(PW_EVENTS, sequence) == b'{"job_id":"7-1-i-1"}'
    assert await bus.stored(PW_EVENTS, sequence + 1) is None


@pytest.mark.parametrize("what", ["job", "stored", "put", "get", "request"])
async def test_silent_server_is_a_retry_for_every_question(
    nats: NatsServer, bus: Bus, what: str
) -> None:
    bus.js._timeout = 0.3  # the services' five seconds would only be longer
    asks = {
        "job": lambda: bus.job(JOB),
        "stored": lambda: bus.stored(PW_EVENTS, 1),
        "put": lambda: bus.put(PW_CHANGES, b"x"),
        "get": lambda: bus.get(PW_CHANGES, "ab" * 32, limit=MIB),
        "request": lambda: bus.request("pw.rpc.vault.test.token", b"", timeout=0.3),
    }
    async with paused(nats):
        with pytest.raises(Retry):
            await asks[what]()


async def test_request_that_nobody_answers_is_a_retry(bus: Bus) -> None:
    with pytest.raises(Retry, match=r"no answer on pw\.rpc\.vault\.test\.token"):
        await bus.request("pw.rpc.vault.test.token", b"")


# --- objects -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 5 * MIB])
async def test_object_comes_back_by_its_digest(bus: Bus, size: int) -> None:
    data = os.urandom(size)
    digest = await bus.put(PW_CHANGES, data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert await bus.get(PW_CHANGES, digest, limit=size) == data


async def test_object_is_stored_once(bus: Bus) -> None:
    await bus.put(PW_CHANGES, b"x" * 1000)
    before = (await bus.js.stream_info("OBJ_PW_CHANGES")).state.last_seq
    await bus.put(PW_CHANGES, b"x" * 1000)
    assert (await bus.js.stream_info("OBJ_PW_CHANGES")).state.last_seq == before


async def test_object_beyond_the_limit_is_refused(bus: Bus) -> None:
    digest = await bus.put(PW_CHANGES, b"x" * (MIB + 1))
    with pytest.raises(Permanent, match="larger than 1 MiB"):
        await bus.get(PW_CHANGES, digest, limit=MIB)
    assert len(await bus.get(PW_CHANGES, digest, limit=MIB + 1)) == MIB + 1


async def test_missing_object_is_permanent(bus: Bus) -> None:
    with pytest.raises(Permanent, match="no longer there"):
        await bus.get(PW_CHANGES, "ab" * 32, limit=MIB)


async def test_object_under_anothers_digest_is_refused(bus: Bus) -> None:
    digest = hashlib.sha256(b"the reviewed change").hexdigest()
    store = await bus.js.object_store(PW_CHANGES.name)
    await store.put(digest, b"another change")
    with pytest.raises(Permanent, match="changed on the way"):
        await bus.get(PW_CHANGES, digest, limit=MIB)


async def test_object_whose_pieces_were_exchanged_is_refused(bus: Bus) -> None:
    digest = await bus.put(PW_CHANGES, b"the reviewed change")
    store = await bus.js.object_store(PW_CHANGES.name)
    pieces = f"$O.{PW_CHANGES.name}.C.{(await store.get_info(digest)).nuid}"
    await bus.js.purge_stream(f"OBJ_{PW_CHANGES.name}", subject=pieces)
    await bus.js.publish(pieces, b"another change......")
    with pytest.raises(Permanent, match="changed on the way"):
        await bus.get(PW_CHANGES, digest, limit=MIB)


async def test_storing_again_mends_an_object_that_was_exchanged(bus: Bus) -> None:
    data = b"the reviewed change"
    store = await bus.js.object_store(PW_CHANGES.name)
    await store.put(hashlib.sha256(data).hexdigest(), b"another change")
    assert await bus.get(PW_CHANGES, await bus.put(PW_CHANGES, data), limit=MIB) == data


async def test_missing_bucket_is_a_retry(bus: Bus) -> None:
    await bus.js.delete_object_store(PW_CHANGES.name)
    with pytest.raises(Retry, match="PW_CHANGES"):
        await bus.put(PW_CHANGES, b"x")


async def test_flush_returns_when_the_server_has_seen_a_subscription_of_just_now() -> None:
    """The server is the test's own: a real one does not tell what it has seen."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"a","version":"2.12.0","max_payload":1024}\r\n')
        while line := await reader.readline():
            seen.append(line.split()[0])
            if seen[-1] == b"PING":
                writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connected(f"nats://127.0.0.1:{port}") as client:
            await client.subscribe("news")
            await flush(client)
            assert b"PING" in seen[seen.index(b"SUB") :]
