"""A job that a person stopped: one result, and which one, wherever the stop comes in between."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from patchwright_common.claims import Cancel, Kind, Outcome
from patchwright_common.events import JobCancelled

from .service import Job, World

AT = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)


async def cancelled(world: World, job: Job, cause: str = "stopped") -> JobCancelled:
    """As triage stops a job: the key, then the event."""
    await key(world, job, cause)
    event = JobCancelled(job_id=job.id, by="ada", cause=cause, at=AT)
    await job.send(event)
    return event


async def key(world: World, job: Job, cause: str = "stopped") -> None:
    await world.claims.cancel(job.id, Cancel(by="ada", cause=cause, at=AT))


async def assert_stopped(job: Job) -> None:
    finished = await job.finished()
    assert finished.result == "cancelled"
    assert (await job.pulls(), await job.pushes()) == ([], [])
    [comment] = await job.comments()
    assert "### 🛑 Stopped" in comment


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("stopped", "`ada` told me to stop"),
        ("closed", "`ada` closed the issue"),
        ("comment_deleted", "`ada` deleted the comment that asked"),
        ("issue_deleted", "`ada` deleted the issue"),
    ],
)
async def test_comment_says_who_stopped_it_what_was_not_harmed_and_what_to_do_next(
    world: World, cause: str, said: str
) -> None:
    job = await world.job()
    await job.started()
    await job.handled()
    await cancelled(world, job, cause)
    await assert_stopped(job)
    [comment] = await job.comments()
    assert said in comment
    assert "nothing was pushed, no branch was touched and no pull request was opened" in comment
    assert ("reopen the issue" in comment) == (cause == "closed")
    assert f"mentions `@{world.scene.app.slug}`" in comment
    assert job.trace in comment


async def test_job_that_never_began_is_stopped_with_one_comment(world: World) -> None:
    """Its acknowledgement and its end at the same moment."""
    job = await world.job(epoch=0)
    await cancelled(world, job)
    await assert_stopped(job)
    await job.handled()
    await assert_stopped(job)


async def test_stop_sent_again_changes_nothing(world: World) -> None:
    job = await world.job()
    event = await cancelled(world, job)
    await assert_stopped(job)
    before, finished = await job.comments(), await job.finished()
    await job.send(event)
    await job.handled()
    assert (await job.comments(), await job.finished()) == (before, finished)


async def test_change_that_was_decided_first_wins(world: World) -> None:
    job = await world.job()
    await job.change()
    finished = await job.finished()
    await cancelled(world, job)
    await job.handled()
    assert await job.finished() == finished
    assert finished.result == "pull_request"
    assert (len(await job.pulls()), len(await job.pushes())) == (1, 1)
    [comment] = await job.comments()
    assert "✅" in comment


async def test_change_that_was_decided_and_not_yet_shown_is_completed_after_a_stop(
    world: World,
) -> None:
    """The publisher died after it had decided: a branch may be there, so the decision holds."""
    job = await world.job()
    await job.handled()
    world.service.kill()
    event = await job.change()
    sequence = await job.send(event)
    await world.claims.decide(job.id, Outcome(kind="pull_request", sequence=sequence))
    await cancelled(world, job)
    world.service.start()
    finished = await job.finished()
    await job.handled()
    assert finished.result == "pull_request"
    assert (len(await job.pulls()), len(await job.pushes())) == (1, 1)
    [comment] = await job.comments()
    assert "✅" in comment


@pytest.mark.parametrize("kind", ["change", "answer", "failure", "gave up"])
async def test_result_that_comes_between_the_stop_and_its_event_is_dropped(
    world: World, kind: str
) -> None:
    job = await world.job()
    await job.handled()
    await key(world, job)
    if kind == "change":
        await job.change()
    elif kind == "answer":
        await job.answer()
    else:
        await job.failure(**({"epoch": None, "sequence": 1} if kind == "gave up" else {}))
    await job.handled()
    assert await world.claims.outcome(job.id) is None
    await cancelled(world, job)
    await assert_stopped(job)


async def test_stop_while_a_change_is_checked_wins_over_it(world: World) -> None:
    job = await world.job()
    await job.handled()
    fault = await world.github.fault("POST", "git-upload-pack", delay=3.0)
    await job.change()
    async with asyncio.timeout(10):
        while fault not in {request["fault"] for request in await world.github.requests()}:
            await asyncio.sleep(0.05)
    await cancelled(world, job)
    await assert_stopped(job)
    await job.handled()
    await assert_stopped(job)


async def test_change_is_not_decided_for_when_the_stop_came_while_it_was_checked(
    world: World,
) -> None:
    """And the event that ends it has yet to come."""
    job = await world.job()
    await job.handled()
    await world.github.fault("POST", "git-upload-pack", delay=2.0)
    await job.change()
    await asyncio.sleep(1.0)
    await key(world, job)
    await job.handled()
    assert await world.claims.outcome(job.id) is None
    await cancelled(world, job)
    await assert_stopped(job)


async def test_progress_after_the_stop_does_not_hide_it(world: World) -> None:
    job = await world.job()
    await cancelled(world, job)
    await job.progressed("ran the tests")
    await job.started()
    await assert_stopped(job)
    await job.handled()
    await assert_stopped(job)


async def test_stop_of_a_deleted_issue_ends_the_job_though_nobody_can_be_told(
    world: World,
) -> None:
    job = await world.job()
    await job.handled()
    for method in ("GET", "POST", "PATCH"):
        await world.github.fault(method, "/issues/", times=50, status=410, body={"message": "Gone"})
    await cancelled(world, job, "issue_deleted")
    finished = await job.finished()
    assert (finished.result, finished.url) == ("cancelled", "")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_publisher_killed_while_it_says_so_says_it_once(world: World, method: str) -> None:
    job = await world.job()
    if method == "PATCH":
        await job.handled()
    else:
        world.service.kill()
    await cancelled(world, job)
    fault = await world.github.fault(
        method, "/comments", times=20, delay=4.0, drop=True, after=True
    )
    if method == "POST":
        world.service.start()
    async with asyncio.timeout(20):
        while fault not in {request["fault"] for request in await world.github.requests()}:
            await asyncio.sleep(0.05)
    world.service.kill()
    await world.github.clear_faults()
    await world.expire()
    world.service.start()
    await assert_stopped(job)


async def test_first_of_a_stop_and_a_change_decides_for_everybody(world: World) -> None:
    """All at the same moment, many times: never two results, never none."""
    jobs = [await world.job() for _ in range(6)]
    await asyncio.gather(*(send for job in jobs for send in (job.change(), cancelled(world, job))))
    seen: set[Kind] = set()
    for job in jobs:
        outcome = await world.claims.outcome(job.id) if await job.finished() else None
        assert outcome is not None
        seen.add(outcome.kind)
        pulls, pushes = await job.pulls(), await job.pushes()
        expected = int(outcome.kind == "pull_request")
        assert (len(pulls), len(pushes), len(await job.comments())) == (expected, expected, 1)
    assert seen <= {"pull_request", "cancelled"}
