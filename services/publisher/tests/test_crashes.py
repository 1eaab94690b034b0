"""One result, wherever the network or the publisher dies. GitHub did it, and nobody heard."""

from __future__ import annotations

import asyncio

import pytest

from patchwright_common.claims import Kind, Outcome

from .service import Job, World

POINTS = {
    "comment written": ("POST", "/issues/{number}/comments"),
    "comment edited": ("PATCH", "/issues/comments/"),
    "branch pushed": ("POST", "{repository}.git/git-receive-pack"),
    "pull request opened": ("POST", "{repository}/pulls$"),
    "check run created": ("POST", "{repository}/check-runs$"),
}


def _at(point: str, world: World, number: int) -> tuple[str, str]:
    method, path = POINTS[point]
    return method, path.format(number=number, repository=world.scene.name)


async def _one_result(job: Job, kind: str) -> None:
    finished = await job.finished()
    assert finished.result == kind
    pulls = await job.pulls()
    assert len(pulls) == (kind == "pull_request")
    assert len(await job.pushes()) == (kind == "pull_request")
    [comment] = await job.comments()
    assert f"/pull/{pulls[0]['number']}" in comment if pulls else "💬" in comment


@pytest.mark.parametrize(
    ("kind", "point"),
    [("answer", "comment written"), ("answer", "comment edited")]
    + [("pull_request", point) for point in POINTS],
)
async def test_answer_that_is_lost_after_github_did_it_leaves_one_result(
    world: World, point: str, kind: str
) -> None:
    job = await world.job()
    if point != "comment written":
        await job.handled()
    method, path = _at(point, world, job.number)
    await world.github.fault(method, path, after=True, drop=True)
    await world.github.fault(method, path, after=True, status=502)
    await (job.change() if kind == "pull_request" else job.answer())
    await _one_result(job, kind)


@pytest.mark.parametrize("point", ["comment written", "comment edited"])
async def test_failure_that_is_lost_after_github_did_it_leaves_one_result(
    world: World, point: str
) -> None:
    job = await world.job()
    if point != "comment written":
        await job.handled()
    method, path = _at(point, world, job.number)
    await world.github.fault(method, path, after=True, drop=True)
    await job.failure()
    assert (await job.finished()).result == "failure"
    assert await job.pulls() == []
    [comment] = await job.comments()
    assert "The model is gone." in comment


async def test_double_whose_deletion_was_not_confirmed_is_gone_and_the_result_stays(
    world: World,
) -> None:
    job = await world.job()
    await job.handled()
    [first] = await job.comments()
    token = await world.scene.token()
    await world.github.comment(world.scene.name, job.number, first, token=token)
    await world.github.fault("DELETE", "/issues/comments/", after=True, drop=True)
    await job.answer()
    await _one_result(job, "answer")


async def test_double_of_one_that_was_killed_is_gone_when_its_message_comes_again(
    world: World,
) -> None:
    job = await world.job()
    await job.handled()
    [first] = await job.comments()
    event = await job.answer()
    await _one_result(job, "answer")
    token = await world.scene.token()
    await world.github.comment(world.scene.name, job.number, first, token=token)
    await job.send(event)
    await job.handled()
    await _one_result(job, "answer")


async def test_acknowledgement_that_looked_before_a_result_was_decided_is_not_written(
    world: World,
) -> None:
    await world.github.fault("GET", "/issues/[0-9]+/comments", delay=1.5)
    job = await world.job()
    looking = f"{world.scene.name}/issues/{job.number}/comments"
    async with asyncio.timeout(10):
        while not await world.github.requests("GET", looking):
            await asyncio.sleep(0.01)
    await world.claims.decide(job.id, Outcome(kind="answer", sequence=1))
    await job.handled()
    assert await job.comments() == []


@pytest.mark.parametrize("path", ["/pulls", "git-upload-pack", "/issues/"])
async def test_outage_of_github_is_waited_out(world: World, path: str) -> None:
    job = await world.job()
    await job.handled()
    await world.github.fault(".*", path, status=503, times=2)
    await job.change()
    await _one_result(job, "pull_request")


async def test_rate_limit_is_obeyed_to_the_second(world: World) -> None:
    job = await world.job()
    await job.handled()
    await world.github.fault("POST", "/pulls$", status=429, headers={"Retry-After": "2"})
    began = asyncio.get_running_loop().time()
    await job.change()
    await _one_result(job, "pull_request")
    assert asyncio.get_running_loop().time() - began > 2


async def test_pull_request_that_was_closed_meanwhile_is_not_pushed_again(world: World) -> None:
    """Its branch is gone, as after a merge, before the publisher comes back."""
    job = await world.job()
    await job.handled()
    wait = {"Retry-After": "2"}
    await world.github.fault("POST", "/pulls$", status=503, headers=wait, after=True)
    await job.change()
    while not await job.pulls():
        await asyncio.sleep(0.02)
    token, path = world.scene.person.token, f"/repos/{world.scene.name}"
    number = (await job.pulls())[0]["number"]
    await world.github.api("PATCH", f"{path}/pulls/{number}", {"state": "closed"}, token=token)
    await world.github.api("DELETE", f"{path}/git/refs/heads/{job.branch}", token=token)
    pushes = await job.pushes()
    assert (await job.finished()).url.endswith(f"/pull/{number}")
    assert await job.pushes() == pushes
    assert len(await job.pulls()) == 1


async def test_killed_at_every_point_leaves_one_result_each(world: World) -> None:
    """All at once, and two more, which were decided when their publisher died.

    Another runner took those jobs since. It finds the decision and stops, so to drop the
    result as the old runner's would be silence.
    """
    world.service.kill()
    jobs = {point: await world.job() for point in POINTS}
    changes = [jobs[p] for p in ("branch pushed", "pull request opened", "check run created")]
    for job in jobs.values():
        await (job.change() if job in changes else job.answer())
    answered, changed = await world.job(), await world.job()
    for job in (answered, changed):
        kind: Kind = "answer" if job is answered else "pull_request"
        sequence = await job.send(await (job.answer() if job is answered else job.change()))
        await world.claims.decide(job.id, Outcome(kind=kind, sequence=sequence))
        await world.claims.take(job.id, "runner-2")
    wanted = {}
    for point, job in jobs.items():
        method, path = _at(point, world, job.number)
        wanted[point] = await world.github.fault(
            method, path, times=20, delay=4.0, drop=True, after=True
        )
    world.service.start()
    async with asyncio.timeout(20):
        while not set(wanted.values()) <= {
            request["fault"] for request in await world.github.requests()
        }:
            await asyncio.sleep(0.05)
    world.service.kill()
    await world.github.clear_faults()
    await world.expire()
    world.service.start()
    for job in jobs.values():
        kind = "pull_request" if job in changes else "answer"
        await _one_result(job, kind)
    await _one_result(answered, "answer")
    await _one_result(changed, "pull_request")
