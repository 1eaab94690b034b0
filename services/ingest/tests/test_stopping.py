"""People stop jobs on GitHub, through the real ingest, vault and triage."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL

import jwt
import pytest
import pytest_asyncio

from harness.programs import program
from patchwright_common.claims import Claims
from patchwright_common.flow import TRIAGE_DELIVERY_RECEIVED, TRIAGE_STOP_RECEIVED

from .chain import READY, Chain, Place, chain

pytestmark = pytest.mark.asyncio(loop_scope="module")
LABEL = "patchwright"
STOP = "@patchwright stop"
A_SECOND = 1.1
"""GitHub's times are whole seconds."""
BACKLOG = 1_000
HELD = 2.5
"""Seconds for which a request is held up, so that its stop overtakes it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="chain")
async def _chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    async with chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def place(chain: Chain) -> AsyncIterator[Place]:
    yield await chain.repository()
    await chain.github.clear_faults()


async def say(place: Place, text: str, *, role: str = "write", number: int = 1) -> int:
    """A comment's id."""
    token = place.chain.tokens[role]
    return int((await place.chain.github.comment(place.name, number, text, token=token))["id"])


async def opened(place: Place, *, label: bool = True) -> None:
    labels = [LABEL] if label else []
    token = place.chain.tokens["write"]
    await place.chain.github.open_issue(place.name, "Division", token=token, labels=labels)


async def running(place: Place, *, waiting: int = 0) -> list[str]:
    """A job that may run, and others of the same issue behind it; their ids."""
    await opened(place)
    for number in range(waiting):
        await say(place, f"@patchwright, and {number}")
    jobs = [job.job_id for job in await place.requested(1 + waiting)]
    await place.chain.quiet()
    assert await place.readied() == jobs[:1]
    return jobs


async def delete(place: Place, comment: int) -> None:
    path = f"/repos/{place.name}/issues/comments/{comment}"
    await place.chain.github.api("DELETE", path, token=place.chain.tokens["write"])


async def stopped(place: Place, *job_ids: str) -> None:
    """Wait until they are; and these only."""
    found = await place.cancelled(len(job_ids))
    await place.chain.quiet()
    assert sorted(job.job_id for job in found) == sorted(job_ids)
    assert len(await place.cancelled(0)) == len(job_ids)
    claims = await Claims.open(place.chain.bus.js)
    assert all([await claims.cancelled(job_id) for job_id in job_ids])


async def test_stop_ends_the_running_job_and_empties_the_queue(chain: Chain, place: Place) -> None:
    jobs = await running(place, waiting=2)
    await say(place, "@Patchwright STOP, this is the wrong file", role="maintain")
    await stopped(place, *jobs)
    [first, *_] = await place.cancelled(3)
    assert (first.by, first.cause) == ("maintain", "stopped")
    assert len(await place.requested(3)) == 3, "a stop is no request"
    assert await place.readied() == jobs[:1]
    assert await place.dead_letters() == []


async def test_finish_of_a_stopped_job_does_not_let_the_next_one_run(
    chain: Chain, place: Place
) -> None:
    jobs = await running(place, waiting=1)
    await say(place, STOP)
    await stopped(place, *jobs)
    await place.finish(jobs[0], at=datetime.now(UTC))
    await chain.quiet()
    assert await place.readied() == jobs[:1]


async def test_asking_again_after_the_stop_makes_a_job_that_runs(
    chain: Chain, place: Place
) -> None:
    """By a comment in the same second, and by the label before the stop is visible."""
    [first] = await running(place)
    await say(place, STOP)
    comment = await say(place, "@patchwright, but do this")
    second = (await place.requested(2))[-1].job_id
    await stopped(place, first)
    assert second == f"{place.id}-1-c{comment}-1"
    await asyncio.sleep(A_SECOND)
    token = chain.tokens["write"]
    await chain.github.unlabel(place.name, 1, LABEL, token=token)
    await chain.github.label(place.name, 1, LABEL, token=token)
    third = (await place.requested(3))[-1]
    assert (third.job_id, third.attempt) == (f"{place.id}-1-issue-2", 2)
    await place.finish(first, at=datetime.now(UTC))
    assert await place.readied(2) == [first, second]
    await place.finish(second, at=datetime.now(UTC))
    assert await place.readied(3) == [first, second, third.job_id]


@pytest.mark.parametrize("role", ["read", "triage"])
async def test_people_who_cannot_write_stop_nothing(chain: Chain, place: Place, role: str) -> None:
    await running(place)
    await say(place, STOP, role=role)
    await chain.quiet()
    assert await place.cancelled(0) == []
    assert len(await place.requested()) == 1


async def test_app_itself_and_texts_that_are_no_new_comment_stop_nothing(
    chain: Chain, place: Place
) -> None:
    token = chain.tokens["write"]
    await running(place)
    app = {"iss": str(chain.app.id), "iat": int(time.time()) - 30, "exp": int(time.time()) + 300}
    proof = jwt.encode(app, chain.app.private_key, algorithm="RS256")
    path = f"/app/installations/{place.installation}/access_tokens"
    own = (await chain.github.api("POST", path, token=proof))["token"]
    await chain.github.comment(place.name, 1, STOP, token=own)
    edited = await say(place, "Looks good")
    path = f"/repos/{place.name}/issues"
    await chain.github.api("PATCH", f"{path}/comments/{edited}", {"body": STOP}, token=token)
    await chain.github.api("PATCH", f"{path}/1", {"title": STOP, "body": STOP}, token=token)
    await chain.quiet()
    assert await place.cancelled(0) == []


async def test_closing_the_issue_stops_its_jobs_whoever_may_close_it(
    chain: Chain, place: Place
) -> None:
    jobs = await running(place, waiting=1)
    await chain.github.close(place.name, 1, token=chain.tokens["triage"])
    await stopped(place, *jobs)
    assert {(job.by, job.cause) for job in await place.cancelled(2)} == {("triage", "closed")}


async def test_closing_after_the_result_is_no_stop(chain: Chain, place: Place) -> None:
    """As when the pull request that says `Fixes #1` is merged."""
    [job] = await running(place)
    await place.finish(job, at=datetime.now(UTC))
    await chain.github.close(place.name, 1, token=chain.tokens["write"])
    await chain.quiet()
    assert await place.cancelled(0) == []


async def test_reopened_issue_takes_requests_again(chain: Chain, place: Place) -> None:
    [job] = await running(place)
    token = chain.tokens["write"]
    await chain.github.close(place.name, 1, token=token)
    await stopped(place, job)
    await place.finish(job, at=datetime.now(UTC))
    await asyncio.sleep(A_SECOND)
    state = {"state": "open"}
    await chain.github.api("PATCH", f"/repos/{place.name}/issues/1", state, token=token)
    await say(place, "@patchwright")
    again = (await place.requested(2))[-1].job_id
    assert await place.readied(2) == [job, again]


async def test_deleting_the_comment_that_asked_stops_its_job_alone(
    chain: Chain, place: Place
) -> None:
    await opened(place, label=False)
    first, second = [await say(place, f"@patchwright {n}") for n in ("one", "two")]
    idle = await say(place, "nothing to do with it")
    await place.requested(2)
    await chain.quiet()
    await delete(place, idle)
    await delete(place, second)
    await stopped(place, f"{place.id}-1-c{second}-1")
    await delete(place, first)
    await stopped(place, *(f"{place.id}-1-c{comment}-1" for comment in (first, second)))
    assert {job.cause for job in await place.cancelled(2)} == {"comment_deleted"}


async def test_deleting_the_issue_stops_its_jobs(chain: Chain, place: Place) -> None:
    jobs = await running(place, waiting=1)
    message = await chain.delivery(place, "issues.labeled")
    body = json.dumps(json.loads(message.body) | {"action": "deleted"}).encode()
    payload = json.loads(body)
    payload["issue"]["updated_at"] = "2099-01-01T00:00:00Z"
    subject = f"pw.github.issues.deleted.{place.id}"
    await chain.bus.js.publish(subject, json.dumps(payload).encode(), stream="PW_GITHUB")
    await stopped(place, *jobs)
    assert {job.cause for job in await place.cancelled(2)} == {"issue_deleted"}


@pytest.mark.parametrize("how", ["stop", "close", "delete"])
async def test_request_that_waits_while_its_stop_overtakes_it_never_runs(
    chain: Chain, place: Place, how: str
) -> None:
    """It becomes a job all the same, which is never made ready and has its one visible result."""
    await opened(place, label=False)
    await chain.quiet()
    await chain.github.fault("GET", f"{place.name}/branches", delay=HELD)
    comment = await say(place, "@patchwright, fix it")
    if how == "stop":
        await say(place, STOP)
    elif how == "close":
        await chain.github.close(place.name, 1, token=chain.tokens["write"])
    else:
        await delete(place, comment)
    await chain.github.settled()
    assert await place.requested(0) == [], "it was not held up"
    await stopped(place, f"{place.id}-1-c{comment}-1")
    assert await place.readied(0) == []


async def test_stop_sent_again_later_does_not_stop_what_was_asked_for_since(
    chain: Chain, place: Place
) -> None:
    [first] = await running(place)
    await say(place, STOP)
    await stopped(place, first)
    await place.finish(first, at=datetime.now(UTC))
    message = await chain.delivery(place, "issue_comment.created")
    await asyncio.sleep(A_SECOND)
    await say(place, "@patchwright, once more")
    await place.requested(2)
    await chain.resend(message)
    await stopped(place, first)


async def test_replay_of_a_stopped_request_runs(chain: Chain, place: Place) -> None:
    """An operator asked for it, and knows."""
    [first] = await running(place)
    message = await chain.delivery(place, "issues.labeled")
    await say(place, STOP)
    await stopped(place, first)
    await place.finish(first, at=datetime.now(UTC))
    await asyncio.sleep(A_SECOND)
    await chain.resend(message, Patchwright_Replay="replay-1")
    again = (await place.requested(2))[-1].job_id
    assert await place.readied(2) == [first, again]
    await stopped(place, first)


async def test_outage_of_github_delays_a_stop_and_does_not_lose_it(
    chain: Chain, place: Place
) -> None:
    [job] = await running(place)
    await chain.github.fault("GET", f"{place.name}/collaborators", status=502, times=2)
    await say(place, STOP)
    await stopped(place, job)


async def test_malformed_comment_is_one_dead_letter(chain: Chain, place: Place) -> None:
    subject = f"pw.github.issue_comment.created.{place.id}"
    await chain.bus.js.publish(subject, b"{}", stream="PW_GITHUB")
    await chain.quiet()
    assert len(await place.dead_letters()) == 1


async def test_triage_killed_while_it_stops_goes_on_where_it_was(tmp_path: Path) -> None:
    async with chain(tmp_path) as broken:
        place = await broken.repository()
        jobs = await running(place, waiting=1)
        wanted = f"{place.name}/collaborators"
        before = len(await broken.github.requests("GET", wanted))
        await broken.github.fault("GET", wanted, delay=2.0)
        await say(place, STOP)
        async with asyncio.timeout(20):
            while len(await broken.github.requests("GET", wanted)) == before:
                await asyncio.sleep(0.05)
        await broken.programs["triage"].stop(SIGKILL)
        environment = broken.nats.environment("triage")
        environment["PATCHWRIGHT_GITHUB_API_URL"] = broken.github.api_url
        async with program("patchwright-triage", environment=environment) as again:
            await again.line(READY)
            await stopped(place, *jobs)


async def test_stop_overtakes_a_thousand_deliveries_that_wait_for_triage(tmp_path: Path) -> None:
    async with chain(tmp_path) as crowded:
        await crowded.github.change_settings(rate_limit=1_000_000)
        place = await crowded.repository()
        [job] = await running(place)
        # Half of what waits are comments, which the stop's own consumer sees as well.
        await say(place, "@patchwright, too", number=1)
        await crowded.quiet()
        waiting = [
            await crowded.delivery(place, subject)
            for subject in ("issues.labeled", "issue_comment.created")
        ]
        await crowded.github.fault("GET", "/collaborators/maintain/", delay=0.5, times=9_999)
        async with crowded.paused("triage"):
            for number in range(2, BACKLOG + 2):
                message = waiting[number % 2]
                payload = json.loads(message.body)
                payload["issue"]["number"] = number
                payload["sender"]["login"] = "maintain"
                headers = {"x-github-event": "issues", "x-github-delivery": f"crowd-{number}"}
                body = json.dumps(payload).encode()
                await crowded.bus.js.publish(
                    message.subject, body, stream="PW_GITHUB", headers=headers
                )
            await say(place, STOP)
            await crowded.github.settled()
            stream = "PW_GITHUB"
            info = await crowded.bus.js.consumer_info(stream, TRIAGE_DELIVERY_RECEIVED.name)
            assert (info.num_pending or 0) > BACKLOG * 0.9
        began = time.monotonic()
        await stopped_in_the_crowd(place, job)
        took = time.monotonic() - began
        info = await crowded.bus.js.consumer_info(stream, TRIAGE_DELIVERY_RECEIVED.name)
        assert (info.num_pending or 0) > BACKLOG / 2, "the backlog was gone before the stop"
        assert took < 10, "the stop waited"
        assert (
            await crowded.bus.js.consumer_info(stream, TRIAGE_STOP_RECEIVED.name)
        ).num_pending == 0


async def stopped_in_the_crowd(place: Place, job: str) -> None:
    while job not in [found.job_id for found in await place.cancelled()]:
        await asyncio.sleep(0.1)
