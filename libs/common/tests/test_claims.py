"""`PW_CLAIMS` is the truth: one owner, one outcome, whoever writes at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.js.kv import KeyValue
from pydantic import BaseModel

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.claims import CONTENTION_LIMIT, Claims, Outcome, Unreadable
from patchwright_common.errors import Overtaken, Retry

from .handling import JOB, answer_onto, paused

AT = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
async def claims(bus: Bus) -> Claims:
    """On the bucket of the test's own server."""
    return await Claims.open(bus.js)


async def test_twenty_takers_get_twenty_epochs(claims: Claims) -> None:
    taken = await asyncio.gather(*(claims.take(JOB, f"runner-{n}") for n in range(20)))
    assert sorted(claim.epoch for claim in taken) == list(range(1, 21))
    held = await claims.claim(JOB)
    assert held is not None
    assert held == next(claim for claim in taken if claim.epoch == 20)


async def test_nobody_owns_a_job_that_was_never_taken(claims: Claims) -> None:
    assert await claims.claim(JOB) is None
    with pytest.raises(Overtaken):
        await claims.beat(JOB, 1)


async def test_heartbeat_of_an_old_epoch_is_refused_and_changes_nothing(claims: Claims) -> None:
    await claims.take(JOB, "first")
    await claims.take(JOB, "second")
    before = await claims.claim(JOB)
    with pytest.raises(Overtaken):
        await claims.beat(JOB, 1)
    with pytest.raises(Overtaken):
        await claims.beat(JOB, 1, retrying=True)
    assert await claims.claim(JOB) == before


async def test_heartbeat_refreshes_the_claim(claims: Claims) -> None:
    taken = await claims.take(JOB, "runner")
    await claims.beat(JOB, 1)
    beaten = await claims.claim(JOB)
    assert beaten is not None
    assert beaten.beaten_at > taken.beaten_at
    assert (beaten.epoch, beaten.owner, beaten.retries) == (1, "runner", 0)


async def test_attempts_that_ended_by_themselves_are_not_counted_as_crashes(claims: Claims) -> None:
    for epoch in (1, 2):
        await claims.take(JOB, "runner")
        await claims.beat(JOB, epoch, retrying=True)
    await claims.take(JOB, "crashes")
    claim = await claims.take(JOB, "runner")
    assert claim.epoch - claim.retries - 1 == 1


async def test_owner_cannot_beat_and_lose_at_the_same_time(claims: Claims) -> None:
    """Heartbeats and a new owner race; the old owner learns of it, the new one keeps it."""
    await claims.take(JOB, "old")
    beats = [claims.beat(JOB, 1) for _ in range(10)]
    results = await asyncio.gather(*beats, claims.take(JOB, "new"), return_exceptions=True)
    assert all(r is None or isinstance(r, Overtaken) for r in results[:-1])
    claim = await claims.claim(JOB)
    assert claim is not None
    assert (claim.epoch, claim.owner) == (2, "new")


async def test_first_outcome_holds_among_twenty(claims: Claims) -> None:
    proposals = [Outcome(kind="answer", sequence=n) for n in range(1, 21)]
    decided = await asyncio.gather(*(claims.decide(JOB, p) for p in proposals))
    assert len(set(decided)) == 1
    assert decided[0] in proposals
    assert await claims.outcome(JOB) == decided[0]


async def test_outcome_that_cannot_be_completed_is_replaced(claims: Claims) -> None:
    failure = Outcome(kind="failure", sequence=9)
    await claims.decide(JOB, Outcome(kind="pull_request", sequence=5))
    assert await claims.replace(JOB, 5, failure) == failure


async def test_outcome_of_another_event_is_not_replaced(claims: Claims) -> None:
    decided = await claims.decide(JOB, Outcome(kind="pull_request", sequence=5))
    assert await claims.replace(JOB, 4, Outcome(kind="failure", sequence=9)) == decided


async def test_outcome_that_is_visible_is_not_replaced(claims: Claims) -> None:
    await claims.decide(JOB, Outcome(kind="pull_request", sequence=5))
    shown = await claims.report(JOB, kind="pull_request", url="https://x.test/1", at=AT)
    assert await claims.replace(JOB, 5, Outcome(kind="failure", sequence=9)) == shown


async def test_first_report_stays(claims: Claims) -> None:
    await claims.decide(JOB, Outcome(kind="pull_request", sequence=5))
    first = await claims.report(JOB, kind="pull_request", url="https://x.test/1", at=AT)
    again = await claims.report(JOB, kind="failure", url="https://x.test/2", at=LATER)
    assert first == again == await claims.outcome(JOB)
    assert (first.url, first.reported_at, first.kind) == ("https://x.test/1", AT, "pull_request")


async def test_report_without_an_outcome_is_a_retry(claims: Claims) -> None:
    with pytest.raises(Retry, match="no outcome"):
        await claims.report(JOB, kind="answer", url="", at=AT)


async def test_record_with_fields_of_a_newer_version_is_read(bus: Bus, claims: Claims) -> None:
    bucket = await bus.js.key_value("PW_CLAIMS")
    await bucket.put(f"outcome.{JOB}", b'{"kind": "answer", "sequence": 3, "mood": "good"}')
    assert await claims.outcome(JOB) == Outcome(kind="answer", sequence=3)


class Listed(BaseModel):
    """A record as the services have them: with a field that is always written."""

    jobs: tuple[str, ...]


@pytest.mark.parametrize("act", ["read", "change"])
async def test_answer_of_the_server_in_place_of_a_record_is_a_retry_that_changes_nothing(
    nats: NatsServer, bus: Bus, claims: Claims, act: str
) -> None:
    """Whoever asks the server something chooses the subject of the answer."""
    await claims.change("queue.7-1", Listed, lambda _: Listed(jobs=(JOB,)))
    await answer_onto(nats, "KV_PW_CLAIMS", "$KV.PW_CLAIMS.queue.7-1")
    written = (await bus.js.stream_info("KV_PW_CLAIMS")).state.last_seq
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "read": lambda: claims.read("queue.7-1", Listed),
        "change": lambda: claims.change("queue.7-1", Listed, lambda _: Listed(jobs=())),
    }
    with pytest.raises(Unreadable, match=r"something else than a Listed at queue\.7-1") as caught:
        await acts[act]()
    assert "io.nats" not in str(caught.value)
    assert (await bus.js.stream_info("KV_PW_CLAIMS")).state.last_seq == written


async def test_record_that_an_operator_deleted_can_be_written_again(
    bus: Bus, claims: Claims
) -> None:
    await claims.take(JOB, "runner")
    await (await bus.js.key_value("PW_CLAIMS")).delete(f"claim.{JOB}")
    assert await claims.claim(JOB) is None
    assert (await claims.take(JOB, "runner")).epoch == 1


async def test_unchanged_record_is_not_written_again(bus: Bus, claims: Claims) -> None:
    await claims.decide(JOB, Outcome(kind="answer", sequence=1))
    before = (await bus.js.stream_info("KV_PW_CLAIMS")).state.last_seq
    await claims.decide(JOB, Outcome(kind="failure", sequence=2))
    assert (await bus.js.stream_info("KV_PW_CLAIMS")).state.last_seq == before


class Counter(BaseModel):
    """A record that many want to change."""

    value: int = 0


async def test_no_change_of_many_writers_is_lost(claims: Claims) -> None:
    def add(before: Counter | None) -> Counter:
        return Counter(value=(before.value if before else 0) + 1)

    await asyncio.gather(*(claims.change("count.x", Counter, add) for _ in range(30)))
    assert await claims.read("count.x", Counter) == Counter(value=30)


async def test_endless_contention_is_a_retry(bus: Bus) -> None:
    """Another writer is always first."""
    bucket = Contended(*vars(await bus.js.key_value("PW_CLAIMS")).values())
    with pytest.raises(Retry, match="too many writers"):
        await Claims(bus.js, bucket).change("count.x", Counter, lambda _: Counter(value=1))
    assert bucket.overtaken == CONTENTION_LIMIT


class Contended(KeyValue):
    """The real bucket, and somebody who writes to it before each of our writes."""

    overtaken = 0

    async def update(self, key: str, value: bytes, *args: Any, **kwargs: Any) -> int:
        self.overtaken += 1
        await self.put(key, Counter(value=1000 + self.overtaken).model_dump_json().encode())
        return await super().update(key, value, *args, **kwargs)


async def test_names_are_listed_by_their_prefix(claims: Claims) -> None:
    assert await claims.keys("claim") == []
    for job_id in ("7-1-i-1", "7-2-i-1"):
        await claims.take(job_id, "runner")
    await claims.decide(JOB, Outcome(kind="answer", sequence=1))
    assert sorted(await claims.keys("claim")) == ["7-1-i-1", "7-2-i-1"]
    assert await claims.keys("outcome") == [JOB]


@pytest.mark.parametrize("what", ["claim", "take", "beat", "decide", "report", "keys"])
async def test_silent_server_is_a_retry(
    nats: NatsServer, bus: Bus, claims: Claims, what: str
) -> None:
    asks: dict[str, Callable[[], Awaitable[object]]] = {
        "claim": lambda: claims.claim(JOB),
        "take": lambda: claims.take(JOB, "runner"),
        "beat": lambda: claims.beat(JOB, 1),
        "decide": lambda: claims.decide(JOB, Outcome(kind="answer", sequence=1)),
        "report": lambda: claims.report(JOB, kind="answer", url="", at=AT),
        "keys": lambda: claims.keys("claim"),
    }
    bus.js._timeout = 0.3  # the services' five seconds would only be longer
    async with paused(nats):
        with pytest.raises(Retry, match="PW_CLAIMS did not answer"):
            await asks[what]()


async def test_missing_bucket_is_a_retry(bus: Bus) -> None:
    await bus.js.delete_key_value("PW_CLAIMS")
    with pytest.raises(Retry, match="PW_CLAIMS did not answer"):
        await Claims.open(bus.js)
