"""The bus is away in every way it can be: GitHub is told so in time, and nothing is lost."""

from __future__ import annotations

import asyncio
import time

import httpx

from harness.nats import NatsServer
from harness.programs import program
from patchwright_common.bus import Bus
from patchwright_common.flow import PW_DELIVERIES
from patchwright_ingest.app import PUBLISH_TIMEOUT

from .chain import LISTENS
from .webhooks import ISSUE, Endpoint, padded, stored
from .webhooks import without_stack_trace as reason

MIB = 2**20


async def test_stopped_bus_is_503_within_two_seconds_and_works_again_later(
    ingest: Endpoint, bus: Bus, nats: NatsServer
) -> None:
    assert (await ingest.post()).status_code == 202
    await nats.stop()
    await assert_refused_in_time(ingest, ISSUE)
    assert (await ingest.http.get("/readyz")).status_code == 503
    assert (await ingest.http.get("/healthz")).status_code == 200
    await nats.start()
    await accepted(ingest)
    assert (await ingest.http.get("/readyz")).status_code == 200


async def test_paused_bus_is_503_within_two_seconds_and_works_again_later(
    ingest: Endpoint, nats: NatsServer
) -> None:
    assert (await ingest.post()).status_code == 202
    nats.pause()
    try:
        large = padded({"action": "opened"}, 3 * MIB)
        nearly = padded({"action": "opened"}, 900 * 1024)
        # Enough of them to fill every buffer on the way to the server.
        await asyncio.gather(
            assert_refused_in_time(ingest, ISSUE),
            assert_refused_in_time(ingest, large),
            *(assert_refused_in_time(ingest, nearly) for _ in range(12)),
        )
    finally:
        nats.wake()
    await accepted(ingest)


async def test_delivery_that_a_paused_bus_took_late_is_not_stored_twice(
    ingest: Endpoint, bus: Bus, nats: NatsServer
) -> None:
    """GitHub is told 503 and redelivers under the same id."""
    nats.pause()
    try:
        assert (await ingest.post(x_github_delivery="late")).status_code == 503
    finally:
        nats.wake()
    assert (await ingest.post(x_github_delivery="late")).status_code == 202
    assert len(await stored(bus)) == 1


async def limit(bus: Bus, size: int) -> None:
    config = (await bus.js.stream_info("PW_GITHUB")).config
    await bus.js.update_stream(config.evolve(max_bytes=size))


async def test_full_stream_is_503_drops_nothing_and_goes_on_when_there_is_room(
    ingest: Endpoint, bus: Bus
) -> None:
    """What was answered 202 is stored, what was not can be redelivered under the same id."""
    await limit(bus, 8000)
    names = [f"d-{n}" for n in range(20)]
    answers = {name: await ingest.post(x_github_delivery=name) for name in names}
    taken = [name for name in names if answers[name].status_code == 202]
    left = [name for name in names if name not in taken]
    assert taken == names[: len(taken)]
    assert taken
    assert {answers[name].status_code for name in left} == {503}
    for name in left:
        reason(answers[name].text)
        assert int(answers[name].headers["retry-after"]) > 0
    assert [m.headers["x-github-delivery"] for m in await stored(bus)] == taken
    # A delivery that is there already is not refused.
    assert (await ingest.post(x_github_delivery=taken[0])).status_code == 202

    await limit(bus, 800_000)
    assert {(await ingest.post(x_github_delivery=n)).status_code for n in left} == {202}
    assert [m.headers["x-github-delivery"] for m in await stored(bus)] == names


async def test_full_object_store_is_503(ingest: Endpoint, bus: Bus) -> None:
    config = (await bus.js.stream_info(PW_DELIVERIES.stream)).config
    await bus.js.update_stream(config.evolve(max_bytes=MIB))
    answer = await ingest.post(padded({}, 2 * MIB))
    assert answer.status_code == 503
    reason(answer.text)
    assert await stored(bus) == []
    await bus.js.update_stream(config)
    assert (await ingest.post(padded({}, 2 * MIB))).status_code == 202


async def test_nearly_full_stream_is_said_where_readiness_is_asked(
    nats: NatsServer, bus: Bus
) -> None:
    await bus.js.publish("pw.github.push.none.7", b"x" * 9000)
    await limit(bus, 10_000)
    environment = nats.environment("ingest") | {"PATCHWRIGHT_INGEST_PORT": "0"}
    async with program("patchwright-ingest", environment=environment) as running:
        await running.line("PW_GITHUB is 9[0-9]% full")
        url = f"http://127.0.0.1:{(await running.line(LISTENS))[1]}/readyz"
        async with httpx.AsyncClient(trust_env=False) as http:
            assert "PW_GITHUB is 9" in (await http.get(url)).json()["alarms"][0]


async def test_missing_stream_is_503(ingest: Endpoint, bus: Bus) -> None:
    await bus.js.delete_stream("PW_GITHUB")
    answer = await ingest.post()
    assert answer.status_code == 503
    reason(answer.text)


async def test_missing_object_store_is_503(ingest: Endpoint, bus: Bus) -> None:
    await bus.js.delete_object_store(PW_DELIVERIES.name)
    answer = await ingest.post(padded({}, 2 * MIB))
    assert answer.status_code == 503
    reason(answer.text)


async def assert_refused_in_time(ingest: Endpoint, body: bytes) -> None:
    started = time.monotonic()
    answer = await ingest.post(body)
    assert answer.status_code == 503
    # The time limit is well inside two seconds; the machine may be busy with something else, but
    # not for so long that it could have been another limit (5 s for any exchange with NATS).
    assert PUBLISH_TIMEOUT < 2.0
    assert time.monotonic() - started < 4.5
    reason(answer.text)


async def accepted(ingest: Endpoint, *, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while (await ingest.post()).status_code != 202:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
