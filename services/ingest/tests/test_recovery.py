"""The search for missed deliveries, with ingest's own permissions and a log of a test's making."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from harness.nats import NatsServer
from harness.programs import program
from harness.vault import ScriptedVault, scripted_vault
from patchwright_common.bus import Bus
from patchwright_common.credentials import Reply, Vault
from patchwright_common.errors import Retry
from patchwright_common.flow import PW_RECOVERY
from patchwright_ingest.missed import Record
from patchwright_ingest.recovery import KEY, Recovery

from .chain import LISTENS, READY
from .delivery_log import DeliveryLog
from .webhooks import ISSUE, SECRET, headers

BRIEF = 0.2
"""Seconds between two looks."""


@pytest.fixture(name="vault")
async def _vault(bus: Bus) -> AsyncIterator[ScriptedVault]:
    async with scripted_vault(bus) as vault:
        yield vault


@pytest.fixture(name="log")
async def _log(vault: ScriptedVault) -> DeliveryLog:
    log = DeliveryLog()
    log.serve(vault)
    return log


@pytest.fixture(name="ingest")
async def _ingest(nats: NatsServer) -> AsyncIterator[Bus]:
    async with nats.known_as("ingest") as bus:
        yield bus


def searching(bus: Bus, *, interval: float = BRIEF, spacing: float = 0.0) -> Recovery:
    return Recovery(bus.js, Vault(bus, "ingest"), interval=interval, spacing=spacing)


async def record(bus: Bus) -> Record:
    entry = await (await bus.js.key_value(PW_RECOVERY.name)).get(KEY)
    return Record.model_validate_json(entry.value or b"")


async def looks(recovery: Recovery, count: int = 1) -> None:
    for _ in range(count):
        await recovery.look()
        await asyncio.sleep(BRIEF)


@contextlib.asynccontextmanager
async def running(recovery: Recovery) -> AsyncIterator[None]:
    task = asyncio.create_task(recovery.run(lambda: False))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)


async def until(true: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


async def test_what_never_arrived_is_sent_again_and_nothing_else(
    ingest: Bus, log: DeliveryLog
) -> None:
    log.add("gone", 0, ago=90)
    log.add("arrived", 202, ago=80)
    log.add("later", 503, ago=70)
    log.add("later", 202, ago=60)
    log.add("unheard", 0, ago=50, event="star")
    log.add("old secret", 401, ago=40)
    log.add("a moment ago", 0, ago=-60)
    await looks(searching(ingest), 4)
    assert log.sent_again == ["gone", "old secret"]


async def test_what_fails_again_is_tried_again_until_it_arrives(
    ingest: Bus, log: DeliveryLog
) -> None:
    log.add("gone", 0, ago=90)
    log.outcome = 503
    async with running(searching(ingest)):
        await until(lambda: len(log.sent_again) >= 3)
        log.outcome = 202
        await until(lambda: log.entries[-1]["status_code"] == 202)
        times = len(log.sent_again)
        await asyncio.sleep(4 * BRIEF)
    assert len(log.sent_again) == times
    assert set(log.sent_again) == {"gone"}
    assert (await record(ingest)).missed == ()


async def test_restart_goes_on_where_the_log_is_known(ingest: Bus, log: DeliveryLog) -> None:
    """Three days are read once; later looks read the newest page, and what they must beyond."""
    log.add("gone", 0, ago=3 * 3600)
    for number in range(20):
        log.add(f"old {number}", 202, ago=7200)
    log.add("new", 202)
    log.outcome = 503
    await looks(searching(ingest))
    assert len(log.pages) == 8

    log.pages.clear()
    await looks(searching(ingest))
    assert len(log.pages) == 1

    log.pages.clear()
    for number in range(5):
        log.add(f"new {number}", 202)
    await looks(searching(ingest))
    # Nothing older than the overlap lies on the pages before the last one of these.
    assert len(log.pages) == 3
    assert [one.guid for one in (await record(ingest)).missed] == ["gone"]


async def test_many_processes_ask_once(nats: NatsServer, ingest: Bus, log: DeliveryLog) -> None:
    for number in range(20):
        log.add(f"{number:02}", 0, ago=90)
    log.outcome = 503
    async with nats.known_as("ingest") as other, nats.known_as("ingest") as third:
        # All at once, and none of them waits for another's look.
        several = [searching(bus, interval=0.001) for bus in (ingest, other, third)]
        found = await asyncio.gather(*(one._read(0.0) for one in several))
        for one in several:
            one._interval = 60.0
        plans = await asyncio.gather(
            *(one._note(read) for one, read in zip(several, found, strict=True))
        )
    asked = [missed.guid for plan in plans for missed in plan.redeliver]
    assert sorted(asked) == [f"{number:02}" for number in range(20)]


async def test_one_look_is_enough_for_all_processes(
    nats: NatsServer, ingest: Bus, log: DeliveryLog
) -> None:
    async with nats.known_as("ingest") as other:
        first, second = searching(ingest, interval=60), searching(other, interval=60)
        waits = await asyncio.gather(first.look(), second.look())
    assert len(log.pages) == 1
    assert max(waits) == 60
    assert 55 < min(waits) < 60


async def test_what_was_noted_but_not_asked_for_comes_up_again(
    ingest: Bus, log: DeliveryLog
) -> None:
    """As a process leaves it that is killed between the two."""
    log.add("gone", 0, ago=90)
    dying = searching(ingest)
    plan = await dying._note(await dying._read(0.0))
    assert [one.guid for one in plan.redeliver] == ["gone"]

    await looks(searching(ingest), 3)
    assert log.sent_again == ["gone"]


async def test_rate_limit_stops_the_batch_and_is_waited_for(ingest: Bus, log: DeliveryLog) -> None:
    for number in range(5):
        log.add(f"{number}", 0, ago=90)
    log.refusal = Reply(error="GitHub answered 403", retry_after=1.5)
    recovery = searching(ingest)
    with pytest.raises(Retry) as caught:
        await recovery.look()
    assert caught.value.after == 1.5
    assert log.sent_again == ["0"]

    log.sent_again.clear()
    began = time.monotonic()
    async with running(recovery):
        await until(lambda: len(log.sent_again) == 1)
        log.refusal = None
        limited = time.monotonic()
        await until(lambda: len(log.sent_again) > 1)
        assert time.monotonic() - limited > 1.4
        await until(lambda: len(set(log.sent_again)) == 5)
    assert time.monotonic() - began < 15


async def test_redeliveries_are_spaced_out(ingest: Bus, log: DeliveryLog) -> None:
    for number in range(4):
        log.add(f"{number}", 0, ago=90)
    began = time.monotonic()
    await searching(ingest, spacing=0.2).look()
    assert len(log.sent_again) == 4
    assert 0.6 <= time.monotonic() - began < 5


async def test_what_github_does_not_have_any_more_is_given_up_and_said_once(
    ingest: Bus,
    log: DeliveryLog,
    caplog: pytest.LogCaptureFixture,
    spans: InMemorySpanExporter,
) -> None:
    log.add("gone", 0, ago=90)
    log.add("bad", 415, ago=90)
    log.refusal = Reply(error="GitHub's delivery log does not hold this.", permanent=True)
    with caplog.at_level(logging.ERROR):
        await looks(searching(ingest), 4)
    assert log.sent_again == ["gone"]
    said = sorted(r.getMessage() for r in caplog.records if r.levelno == logging.ERROR)
    assert len(said) == 2
    assert "delivery bad (issues) is given up: ingest answered 415" in said[0]
    assert "delivery gone (issues) is given up: GitHub's delivery log does not hold" in said[1]
    lost = [s for s in spans.get_finished_spans() if s.name == "give up delivery"]
    assert {(s.attributes or {})["patchwright.delivery.id"] for s in lost} == {"gone", "bad"}
    assert not any(s.status.is_ok for s in lost)


async def test_record_that_is_none_is_made_anew_from_the_log(ingest: Bus, log: DeliveryLog) -> None:
    """Every service can let the server write its answers to any key."""
    await (await ingest.js.key_value(PW_RECOVERY.name)).put(KEY, b'{"type": "io.nats"}')
    log.add("gone", 0, ago=90)
    await looks(searching(ingest))
    assert log.sent_again == ["gone"]
    assert len((await record(ingest)).missed) == 1


async def test_page_that_fails_once_does_not_begin_the_reading_anew(
    ingest: Bus, vault: ScriptedVault, log: DeliveryLog
) -> None:
    for number in range(9):
        log.add(f"{number}", 202)
    trouble = [Reply(error="GitHub answered 502")]

    def page(body: str) -> Reply:
        if json.loads(body)["cursor"] and trouble:
            return trouble.pop()
        return log.page(body)

    vault.replies["deliveries"] = page
    await looks(searching(ingest))
    assert log.pages == ["", "7", "4"]


@pytest.mark.parametrize(
    "answer",
    [
        Reply(error="GitHub answered 502"),
        Reply(error="does not know this page", permanent=True),
        Reply(value="{"),
        Reply(value='{"deliveries": [{"id": 1}], "next": ""}'),
    ],
)
async def test_log_that_cannot_be_read_is_said_once_and_looked_at_again(
    ingest: Bus,
    vault: ScriptedVault,
    log: DeliveryLog,
    caplog: pytest.LogCaptureFixture,
    answer: Reply,
) -> None:
    log.add("gone", 0, ago=90)
    vault.replies["deliveries"] = answer
    async with running(searching(ingest, interval=0.05)):
        await until(lambda: vault.asked.count("deliveries") > 8)
        said = [r for r in caplog.records if "cannot look for missed" in r.getMessage()]
        assert len(said) == 1
        log.serve(vault)
        await until(lambda: log.sent_again == ["gone"])


async def test_search_goes_on_after_nats_was_away(
    nats: NatsServer, ingest: Bus, vault: ScriptedVault, log: DeliveryLog
) -> None:
    async with running(searching(ingest)):
        await until(lambda: len(log.pages) > 1)
        await nats.stop()
        await asyncio.sleep(0.5)
        await nats.start()
        log.add("gone", 0, ago=90)
        await until(lambda: log.sent_again == ["gone"])


# --- in the program --------------------------------------------------------------------


async def test_deliveries_are_answered_while_the_log_is_not(
    nats: NatsServer, vault: ScriptedVault
) -> None:
    """And the end does not wait for it either."""
    vault.secrets(SECRET)
    environment = nats.environment("ingest") | {
        "PATCHWRIGHT_INGEST_PORT": "0",
        "PATCHWRIGHT_RECOVERY_INTERVAL": "0.1",
    }
    async with program("patchwright-ingest", environment=environment) as ingest:
        await ingest.line(READY)
        port = (await ingest.line(LISTENS))[1]
        await until(lambda: "deliveries" in vault.asked)
        async with httpx.AsyncClient(trust_env=False) as http:
            began = time.monotonic()
            url = f"http://127.0.0.1:{port}/webhooks/github"
            answer = await http.post(url, content=ISSUE, headers=headers())
            assert (answer.status_code, time.monotonic() - began < 1.5) == (202, True)
        began = time.monotonic()
        assert await ingest.stop() == 0
        assert time.monotonic() - began < 5


async def test_interval_of_zero_switches_it_off(
    nats: NatsServer, vault: ScriptedVault, log: DeliveryLog
) -> None:
    vault.secrets(SECRET)
    environment = nats.environment("ingest") | {
        "PATCHWRIGHT_INGEST_PORT": "0",
        "PATCHWRIGHT_RECOVERY_INTERVAL": "0",
    }
    log.add("gone", 0, ago=90)
    async with program("patchwright-ingest", environment=environment) as ingest:
        await ingest.line(READY)
        await asyncio.sleep(1.5)
        assert log.pages == []
        assert await ingest.stop() == 0
