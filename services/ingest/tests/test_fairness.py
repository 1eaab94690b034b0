"""Triage's queues on a real bus: shares hold, everybody has a turn, and no step can be lost."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from patchwright_common import flow
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims, Outcome
from patchwright_common.events import JobFailed, JobFinished, JobRequested, Repository
from patchwright_common.pull import PullLoop
from patchwright_ingest.attempts import EMPTY, Queue
from patchwright_ingest.fairness import Fairness, queue_key
from patchwright_ingest.mention import Mention
from patchwright_ingest.triage import Triage
from patchwright_ingest.turns import Shares, Turns

from .webhooks import stored

SHARES = Shares(repository=2, installation=3, sender=0)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job(
    repository: int, issue: int, *, installation: int = 1, sender: str = "ada", attempt: int = 1
) -> JobRequested:
    return JobRequested(
        job_id=f"{repository}-{issue}-issue-{attempt}",
        repository=Repository(
            id=repository, full_name="octo/greeter", default_branch="main",
            clone_url="https://github.test/octo/greeter.git", installation_id=installation,
        ),
        issue_number=issue, title="Greet", body="", sender=sender, base="a" * 40,
        attempt=attempt, delivery_id="d", requested_at=NOON,
    )  # fmt: skip


@dataclass
class Counter:
    """What triage has decided so far, as its neighbours see it."""

    bus: Bus
    claims: Claims

    async def ids(self, verb: str) -> list[str]:
        prefix = f"pw.evt.job.{verb}."
        found = await stored(self.bus, "PW_EVENTS")
        return [m.subject.removeprefix(prefix) for m in found if m.subject.startswith(prefix)]

    async def quiet(self) -> None:
        async with asyncio.timeout(20):
            for consumer in flow.consumers("triage"):
                stream = flow.route_of(consumer).stream.name
                while True:
                    info = await self.bus.js.consumer_info(stream, consumer.name)
                    if not (info.num_pending or info.num_ack_pending):
                        break
                    await asyncio.sleep(0.02)

    async def ask(self, *jobs: JobRequested) -> None:
        """One behind the other."""
        for one in jobs:
            await self.bus.record(one)
            await self.quiet()

    async def decide(self, job_id: str) -> None:
        """The result is visible."""
        await self.claims.decide(job_id, Outcome(kind="answer", sequence=1))
        await self.claims.report(job_id, kind="answer", url="http://x", at=NOON)

    async def finish(self, job_id: str) -> None:
        await self.decide(job_id)
        finished = JobFinished(job_id=job_id, result="answer", url="http://x")
        await self.bus.emit(flow.JOB_FINISHED, finished, step="finished")


class NoLimit:
    async def check(self) -> None:
        pass


@asynccontextmanager
async def triage(bus: Bus, shares: Shares = SHARES) -> AsyncIterator[Counter]:
    """Its handlers for jobs; GitHub is asked nothing by them."""
    claims = await Claims.open(bus.js)
    unused: Any = None
    fairness = Fairness(bus, claims, shares)
    handlers = Triage(
        bus, claims, unused, Mention("patchwright"), "patchwright",
        room=NoLimit(), fairness=fairness,
    )  # fmt: skip
    loops = (
        PullLoop(bus, flow.TRIAGE_JOB_REQUESTED, handlers.on_requested),
        PullLoop(bus, flow.TRIAGE_JOB_FINISHED, handlers.on_finished),
    )
    tasks = [asyncio.create_task(loop.run()) for loop in loops]
    try:
        yield Counter(bus, claims)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=5)


async def test_noisy_repository_does_not_starve_the_others(bus: Bus) -> None:
    async with triage(bus) as counter:
        await counter.ask(*(job(7, issue) for issue in range(1, 11)))
        assert len(await counter.ids("readied")) == SHARES.repository
        await counter.ask(job(8, 1), job(9, 1, installation=2))
        ready = await counter.ids("readied")
        assert {"8-1-issue-1", "9-1-issue-1"} < set(ready)
        for number in range(10):
            await counter.finish((await counter.ids("readied"))[number])
            await counter.quiet()
        assert len(await counter.ids("readied")) == 12


async def test_jobs_of_one_issue_still_run_one_after_the_other(bus: Bus) -> None:
    async with triage(bus) as counter:
        first, second = job(7, 1), job(7, 1, attempt=2)
        await counter.ask(first, second)
        assert await counter.ids("readied") == [first.job_id]
        await counter.finish(first.job_id)
        await counter.quiet()
        assert await counter.ids("readied") == [first.job_id, second.job_id]


@pytest.mark.parametrize("seed", [1, 2])
async def test_everybody_has_a_turn_whatever_comes_between(bus: Bus, seed: int) -> None:
    """Requests and results in any order and twice, on two triages at once."""
    chance = random.Random(seed)  # noqa: S311  the same order on each run
    jobs = [
        job(10 * installation + repository, issue, installation=installation)
        for installation in (1, 2) for repository in (1, 2) for issue in range(8)
    ]  # fmt: skip
    chance.shuffle(jobs)
    done: set[str] = set()
    async with triage(bus) as counter, triage(bus):
        for one in jobs:
            await bus.record(one)
        async with asyncio.timeout(60):
            while len(done) < len(jobs):
                ready = [name for name in await counter.ids("readied") if name not in done]
                for installation in ("1", "2"):
                    mine = [name for name in ready if name.startswith(installation)]
                    assert len(mine) <= SHARES.installation
                for name in chance.sample(ready, min(len(ready), 3)):
                    await counter.finish(name)
                    done.add(name)
                await asyncio.sleep(0.05)
        await counter.quiet()
        ready = await counter.ids("readied")
        assert len(ready) == len(set(ready)) == len(jobs)
        for installation in ("1", "2"):
            turns = await counter.claims.read(f"turns.{installation}", Turns)
            assert turns is not None
            assert turns.ready == turns.waiting == ()


async def test_one_request_too_many_has_one_visible_answer_and_takes_no_turn(bus: Bus) -> None:
    async with triage(bus, Shares(sender=2)) as counter:
        await counter.ask(job(7, 1), job(7, 2, sender="ADA"), job(7, 3), job(8, 4, sender="bob"))
        assert set(await counter.ids("readied")) == {"7-1-issue-1", "7-2-issue-1", "8-4-issue-1"}
        assert await counter.ids("failed") == ["7-3-issue-1"]
        message = await bus.js.get_last_msg("PW_EVENTS", "pw.evt.job.failed.7-3-issue-1")
        failed = JobFailed.model_validate(json.loads(message.data or b""))
        assert "ada asked for more than 2 jobs within an hour" in failed.reason
        assert "Ask again" in failed.advice
        await counter.finish("7-3-issue-1")
        await counter.finish("7-1-issue-1")
        await counter.quiet()
        assert "7-3-issue-1" not in await counter.ids("readied")


async def test_other_installation_counts_by_itself(bus: Bus) -> None:
    async with triage(bus, Shares(sender=1)) as counter:
        await counter.ask(job(7, 1), job(8, 1, installation=2))
        assert await counter.ids("failed") == []


async def test_head_that_finished_meanwhile_takes_no_place(bus: Bus) -> None:
    """A triage that was paused between the two records holds an old queue in its hands."""
    claims = await Claims.open(bus.js)
    late = job(7, 1)
    old = EMPTY.with_job(late.job_id)
    await claims.change(queue_key(late), Queue, lambda _: old.without_job(late.job_id))
    await Fairness(bus, claims, SHARES).take_turns(late, old)
    turns = await claims.read("turns.1", Turns)
    assert turns is not None
    assert turns.ready == turns.waiting == ()


async def test_lost_end_of_a_job_is_swept_up(bus: Bus) -> None:
    """Its result is visible, but JobFinished never came to triage."""
    async with triage(bus) as counter:
        await counter.ask(*(job(7, issue) for issue in range(1, 4)))
        first, second = await counter.ids("readied")
        await counter.decide(first)
        await Fairness(bus, counter.claims, SHARES).sweep()
        assert await counter.ids("readied") == [first, second, "7-3-issue-1"]


async def test_lost_word_that_it_is_their_turn_is_swept_up(bus: Bus) -> None:
    """Killed after the record and before JobReadied; somebody else acknowledged the message."""
    claims = await Claims.open(bus.js)
    waiting = job(7, 1)
    await bus.record(waiting)
    queue = EMPTY.with_job(waiting.job_id)
    await claims.change(queue_key(waiting), Queue, lambda _: queue)
    turns = Turns(ready=(), waiting=()).with_job(waiting.job_id, 7).advanced(SHARES)
    await claims.change("turns.1", Turns, lambda _: turns)
    counter = Counter(bus, claims)
    assert await counter.ids("readied") == []
    await Fairness(bus, claims, SHARES).sweep()
    assert await counter.ids("readied") == [waiting.job_id]


async def test_sweep_leaves_what_runs_alone(bus: Bus) -> None:
    async with triage(bus) as counter:
        await counter.ask(*(job(7, issue) for issue in range(1, 5)))
        before = await counter.claims.read("turns.1", Turns)
        await Fairness(bus, counter.claims, SHARES).sweep()
        assert await counter.claims.read("turns.1", Turns) == before
        assert len(await counter.ids("readied")) == 2


async def test_unreadable_record_of_one_job_holds_up_no_other(bus: Bus) -> None:
    async with triage(bus) as counter:
        await counter.ask(*(job(7, issue) for issue in range(1, 4)))
        first, second = await counter.ids("readied")
        bucket = await bus.js.key_value(flow.PW_CLAIMS.name)
        for key in (f"outcome.{first}", "turns.0"):
            await bucket.put(key, b"no record")
        await counter.decide(second)
        await Fairness(bus, counter.claims, SHARES).sweep()
        assert await counter.ids("readied") == [first, second, "7-3-issue-1"]
