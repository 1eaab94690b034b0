"""The check run on a pull request's commit: what was verified, once, and never in the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patchwright_common.events import Verification
from patchwright_publisher.check_run import conclusion_of
from patchwright_publisher.github import FRESH

from .service import TRACE_URL, Job, World

PASSED = Verification(commands=("make test",))
FAILED = Verification(commands=("make test",), failed="make `test` @everyone", ending="exit 2")


async def _runs(world: World, commit: str) -> list[dict[str, Any]]:
    state = await world.github.state()
    return [run for run in state["check_runs"] if run["head_sha"] == commit]


async def _pull_request(job: Job) -> None:
    assert (await job.finished()).result == "pull_request"
    assert len(await job.pulls()) == 1


@pytest.mark.parametrize(
    ("verification", "conclusion"), [(PASSED, "success"), (FAILED, "failure"), (None, "neutral")]
)
def test_check_claims_no_more_than_was_verified(
    verification: Verification | None, conclusion: str
) -> None:
    assert conclusion_of(verification) == conclusion


async def test_pull_request_has_one_check_run_with_its_verification(world: World) -> None:
    job = await world.job()
    event = await job.change(verification=FAILED)
    await job.send(event)
    await _pull_request(job)
    await job.handled()
    [run] = await _runs(world, event.commit)
    assert (run["name"], run["external_id"]) == ("Patchwright", job.id)
    assert (run["status"], run["conclusion"]) == ("completed", "failure")
    assert run["details_url"] == TRACE_URL.replace("{trace_id}", job.trace)
    assert run["output"]["title"] == "The verification fails · $0.0123"
    assert "exit 2" in run["output"]["summary"]
    assert "@everyone" not in run["output"]["summary"]
    async with asyncio.timeout(10):
        path = f"/repos/{world.scene.name}/commits/{event.commit}/check-runs"
        token = world.scene.person.token
        assert (await world.github.api("GET", path, token=token))["total_count"] == 1


async def test_slow_answer_about_check_runs_does_not_keep_the_result_from_the_issue(
    world: World,
) -> None:
    job = await world.job()
    await job.handled()
    await world.github.fault("GET", "/check-runs", delay=FRESH + 1)
    event = await job.change()
    async with asyncio.timeout(FRESH):
        while "/pull/" not in (await job.comments())[0]:
            await asyncio.sleep(0.02)
    assert await _runs(world, event.commit) == []
    await _pull_request(job)
    assert len(await _runs(world, event.commit)) == 1


async def test_check_run_whose_receipt_was_lost_is_not_made_again(world: World) -> None:
    job = await world.job()
    await job.handled()
    await world.github.fault("POST", "/check-runs$", after=True, drop=True)
    event = await job.change()
    await _pull_request(job)
    assert len(await _runs(world, event.commit)) == 1


async def test_app_without_the_permission_for_checks_still_opens_the_pull_request(
    world: World,
) -> None:
    job = await world.job()
    await job.handled()
    message = {"message": "Resource not accessible by integration"}
    await world.github.fault("GET", "/check-runs", status=403, body=message, times=9)
    event = await job.change()
    await _pull_request(job)
    assert await _runs(world, event.commit) == []
