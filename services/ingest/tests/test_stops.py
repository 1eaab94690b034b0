"""Carrying out a stop, on a real NATS: cut off at any step and begun again, it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from patchwright_common.bus import Bus
from patchwright_common.claims import Cancel, Claims, Outcome
from patchwright_common.events import JobCancelled, JobRequested, Repository
from patchwright_common.flow import JOB_CANCELLED, JOB_READIED, JOB_REQUESTED
from patchwright_common.messaging import Delivery
from patchwright_ingest.attempts import EMPTY, Queue
from patchwright_ingest.fairness import Fairness
from patchwright_ingest.mention import Mention
from patchwright_ingest.stop import Stop
from patchwright_ingest.stopping import Stops
from patchwright_ingest.triage import Triage
from patchwright_ingest.turns import Shares

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
STOP = Stop(by="ada", cause="stopped", at=NOON, comment_id=50)
CANCEL = Cancel(by="ada", cause="stopped", at=NOON)
ISSUE = "7-2"
FIRST, SECOND_JOB = "7-2-issue-1", "7-2-c40-1"


class World:
    def __init__(self, bus: Bus, claims: Claims) -> None:
        self.bus = bus
        self.claims = claims
        self.stops = Stops(bus, claims)
        unused: Any = None
        self.triage = Triage(
            bus, claims, unused, Mention("patchwright"), "patchwright",
            room=unused, fairness=Fairness(bus, claims, Shares()),
        )  # fmt: skip

    async def requested(self, job_id: str, *, asked_at: datetime | None = NOON - SECOND) -> None:
        place = Repository(
            id=7, full_name="a/b", clone_url="http://x/a/b.git", default_branch="main",
            installation_id=1,
        )  # fmt: skip
        job = JobRequested(
            job_id=job_id, repository=place, issue_number=2, title="t", body="", sender="ada",
            base="1" * 40, attempt=1, delivery_id="d", requested_at=NOON - 2 * SECOND,
            asked_at=asked_at,
        )  # fmt: skip
        assert await self.bus.record(job)

    async def queue(self, *job_ids: str) -> None:
        """As triage's handler leaves it."""
        for job_id in job_ids:
            await self.claims.change(
                f"queue.{ISSUE}", Queue, lambda q, job=job_id: (q or EMPTY).with_job(job)
            )

    async def handle(self, job_id: str) -> None:
        """The consumer of requests gets this one."""
        subject = JOB_REQUESTED.subject(job_id)
        consumer = JOB_REQUESTED.consumers[0]
        await self.triage.on_requested(Delivery(consumer, subject, b"", {}, 1, 1))

    async def cancelled(self) -> list[str]:
        return await self._subjects(JOB_CANCELLED.prefix)

    async def readied(self) -> list[str]:
        return await self._subjects(JOB_READIED.prefix)

    async def _subjects(self, prefix: str) -> list[str]:
        info = await self.bus.js.stream_info("PW_EVENTS", subjects_filter=f"{prefix}.*")
        found = info.state.subjects or {}
        assert set(found.values()) <= {1}, "sent once"
        return sorted(subject.rpartition(".")[2] for subject in found)


@pytest.fixture(name="world")
async def _world(bus: Bus) -> World:
    return World(bus, await Claims.open(bus.js))


async def test_stop_ends_every_job_of_the_issues_queue(world: World) -> None:
    for job_id in (FIRST, SECOND_JOB):
        await world.requested(job_id)
        await world.handle(job_id)
    assert await world.readied() == [FIRST]

    for _ in range(2):
        await world.stops.record(f"stop.{ISSUE}", STOP)
        await world.stops.stop_queue(ISSUE)

    assert await world.cancelled() == sorted([FIRST, SECOND_JOB])
    for job_id in (FIRST, SECOND_JOB):
        assert await world.claims.cancelled(job_id) == CANCEL
    event = JobCancelled(job_id=FIRST, by="ada", cause="stopped", at=NOON)
    stored = await world.bus.js.get_last_msg("PW_EVENTS", JOB_CANCELLED.subject(FIRST))
    assert JobCancelled.model_validate_json(stored.data or b"") == event


async def test_request_that_its_stop_has_overtaken_never_runs_and_is_not_silent(
    world: World,
) -> None:
    await world.stops.record(f"stop.{ISSUE}", STOP)
    await world.stops.stop_queue(ISSUE)
    await world.requested(FIRST)

    await world.handle(FIRST)

    assert await world.cancelled() == [FIRST]
    assert await world.readied() == []


async def test_overtaken_request_behind_another_one_is_stopped_without_waiting_for_it(
    world: World,
) -> None:
    await world.requested(FIRST, asked_at=NOON + SECOND)
    await world.handle(FIRST)
    await world.stops.record(f"stop.{ISSUE}", STOP)
    await world.requested(SECOND_JOB)

    await world.handle(SECOND_JOB)

    assert await world.cancelled() == [SECOND_JOB]
    assert await world.readied() == [FIRST]


async def test_killed_between_the_key_and_the_event(world: World) -> None:
    """By the stop's handler or the request's; either comes again."""
    await world.requested(FIRST)
    await world.queue(FIRST)
    await world.stops.record(f"stop.{ISSUE}", STOP)
    await world.claims.cancel(FIRST, CANCEL)

    await world.handle(FIRST)

    assert await world.cancelled() == [FIRST]
    assert await world.readied() == []


async def test_killed_between_the_record_and_the_queue(world: World) -> None:
    await world.requested(FIRST)
    await world.handle(FIRST)
    await world.stops.record(f"stop.{ISSUE}", STOP)

    await world.stops.record(f"stop.{ISSUE}", STOP)
    await world.stops.stop_queue(ISSUE)

    assert await world.cancelled() == [FIRST]


async def test_job_behind_another_is_stopped_before_its_turn(world: World) -> None:
    """Queued, and its own message not handled to the end, when the job before it finishes."""
    await world.requested(FIRST)
    await world.handle(FIRST)
    await world.requested(SECOND_JOB)
    await world.queue(SECOND_JOB)
    await world.stops.record(f"stop.{ISSUE}", STOP)
    job = await world.bus.job(FIRST)

    await world.triage._ready(job, lambda queue: queue.without_job(FIRST))

    assert await world.readied() == [FIRST]
    assert await world.cancelled() == [SECOND_JOB]


@pytest.mark.parametrize("kind", ["pull_request", "answer", "failure", "cancelled"])
async def test_job_with_an_outcome_is_not_touched(world: World, kind: str) -> None:
    await world.requested(FIRST)
    await world.handle(FIRST)
    await world.claims.decide(FIRST, Outcome(kind=kind, sequence=1))  # type: ignore[arg-type]

    await world.stops.record(f"stop.{ISSUE}", STOP)
    await world.stops.stop_queue(ISSUE)

    assert await world.claims.cancelled(FIRST) is None
    assert await world.cancelled() == []


async def test_what_was_asked_after_the_stop_goes_on(world: World) -> None:
    """A stop can be handed over late: what somebody asked for since is not meant."""
    await world.requested(FIRST, asked_at=NOON + SECOND)
    await world.handle(FIRST)

    await world.stops.record(f"stop.{ISSUE}", STOP)
    await world.stops.stop_queue(ISSUE)
    await world.requested("7-2-c51-1", asked_at=NOON)
    await world.handle("7-2-c51-1")

    assert await world.cancelled() == []
    assert await world.readied() == [FIRST]


async def test_older_stop_that_comes_late_does_not_hide_the_newer_one(world: World) -> None:
    await world.stops.record(f"stop.{ISSUE}", STOP)
    await world.stops.record(f"stop.{ISSUE}", STOP.model_copy(update={"at": NOON - 9 * SECOND}))
    await world.requested(FIRST)
    await world.handle(FIRST)

    assert await world.cancelled() == [FIRST]


async def test_stop_of_one_comments_request_leaves_the_others(world: World) -> None:
    for job_id in (FIRST, SECOND_JOB):
        await world.requested(job_id)
        await world.handle(job_id)

    await world.stops.record("stop.7-2-c40", STOP.model_copy(update={"cause": "comment_deleted"}))
    await world.stops.stop_queue(ISSUE)

    assert await world.cancelled() == [SECOND_JOB]


async def test_stop_of_another_issue_stops_nothing(world: World) -> None:
    await world.requested(FIRST)
    await world.handle(FIRST)

    await world.stops.record("stop.7-20", STOP)
    await world.stops.stop_queue("7-20")

    assert await world.cancelled() == []


async def test_record_of_an_older_version_counts_by_when_it_was_made(world: World) -> None:
    await world.requested(FIRST, asked_at=None)
    await world.handle(FIRST)

    await world.stops.record(f"stop.{ISSUE}", STOP)
    await world.stops.stop_queue(ISSUE)

    assert await world.cancelled() == [FIRST]


async def test_job_without_a_record_does_not_keep_the_others_from_being_stopped(
    world: World,
) -> None:
    await world.queue("7-2-c9-1")
    await world.requested(FIRST)
    await world.queue(FIRST)

    await world.stops.record(f"stop.{ISSUE}", STOP)
    await world.stops.stop_queue(ISSUE)

    assert await world.cancelled() == [FIRST]
