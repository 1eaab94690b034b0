"""Faults on demand: wrong answers, slow ones, none, and writes whose answer is lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from standin_github.process import running
from standin_github.scene import Scene, make_scene


async def test_wrong_answer_is_given_so_many_times(scene: Scene) -> None:
    body = {"message": "You have exceeded a secondary rate limit."}
    await scene.github.fault(
        "GET",
        f"/repos/{scene.name}$",
        times=2,
        status=403,
        headers={"retry-after": "7"},
        body=body,
    )
    token = await scene.token()
    for _ in range(2):
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await scene.github.api("GET", f"/repos/{scene.name}", token=token)
        assert caught.value.response.status_code == 403
        assert caught.value.response.headers["retry-after"] == "7"
        assert caught.value.response.json() == body
    await scene.github.api("GET", f"/repos/{scene.name}", token=token)


async def test_answer_repeats_the_credential_when_asked_to(scene: Scene) -> None:
    await scene.github.fault("GET", f"/repos/{scene.name}$", status=403, echo=True)
    token = await scene.token()

    with pytest.raises(httpx.HTTPStatusError) as caught:
        await scene.github.api("GET", f"/repos/{scene.name}", token=token)

    assert f"Bearer {token}" in caught.value.response.json()["message"]


async def test_answer_breaks_off_in_the_middle_of_its_body(scene: Scene) -> None:
    await scene.github.fault("POST", "/comments$", truncate=True)
    token = await scene.token()
    await scene.github.open_issue(scene.name, "x", token=scene.person.token)

    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        await scene.github.comment(scene.name, 1, "written", token=token)

    [comment] = await scene.github.comments(scene.name, 1)
    assert comment["body"] == "written"


async def test_every_credential_of_the_app_is_remembered(scene: Scene) -> None:
    tokens = {await scene.token(), await scene.token()}

    known = await scene.github.credentials()

    assert tokens <= set(known)
    assert any(credential.count(".") == 2 for credential in known)


@pytest.mark.parametrize("drop", [True, False])
async def test_write_is_done_but_its_answer_is_lost(scene: Scene, drop: bool) -> None:
    github, token = scene.github, await scene.token()
    await github.open_issue(scene.name, "x", token=scene.person.token)
    path = f"{scene.name}/issues/1/comments"
    await github.fault("POST", path, after=True, drop=drop, status=None if drop else 502)
    with pytest.raises(httpx.RemoteProtocolError if drop else httpx.HTTPStatusError):
        await github.comment(scene.name, 1, "written", token=token)
    assert [c["body"] for c in await github.comments(scene.name, 1)] == ["written"]
    (logged,) = await github.requests("POST", path)
    assert (logged["status"], logged["answer_lost"]) == (201, True)


async def test_cut_connection_writes_nothing(scene: Scene) -> None:
    await scene.github.fault("POST", f"{scene.name}/issues", drop=True)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await scene.github.open_issue(scene.name, "x", token=scene.person.token)
    assert await scene.github.issues(scene.name) == []


async def test_hanging_request_is_answered_later(scene: Scene) -> None:
    await scene.github.fault("GET", f"/repos/{scene.name}$", delay=0.3)
    started = time.monotonic()
    await scene.github.api("GET", f"/repos/{scene.name}", token=scene.person.token)
    assert time.monotonic() - started >= 0.3


async def test_answer_may_be_late_though_the_write_was_not(scene: Scene) -> None:
    await scene.github.fault("POST", f"{scene.name}/issues$", delay=0.5, after=True)
    opening = scene.github.open_issue(scene.name, "x", token=scene.person.token)
    task = asyncio.create_task(opening)
    await asyncio.sleep(0.2)
    assert not task.done()
    assert len(await scene.github.issues(scene.name)) == 1
    assert (await task)["number"] == 1


async def test_request_log_counts_writes_by_actor(scene: Scene) -> None:
    await scene.github.open_issue(scene.name, "x", token=scene.person.token)
    await scene.github.comment(scene.name, 1, "x", token=await scene.token())
    writes = await scene.github.requests("POST", scene.name)
    assert [(w["actor"], w["status"]) for w in writes] == [
        (scene.person.login, 201),
        (scene.app.bot, 201),
    ]


async def test_rate_limit_runs_out_and_says_when_it_returns(tmp_path: Path) -> None:
    async with running(tmp_path, "--rate-limit", "3") as github:
        scene = await make_scene(github)
        token = await scene.token()
        for _ in range(3):
            await github.api("GET", f"/repos/{scene.name}", token=token)
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await github.api("GET", f"/repos/{scene.name}", token=token)
        answer = caught.value.response
        assert answer.status_code == 403
        assert "API rate limit exceeded for installation" in answer.json()["message"]
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert int(answer.headers["x-ratelimit-reset"]) > time.time()
        overview = await github.api("GET", "/rate_limit", token=token)
        assert overview["resources"]["core"]["remaining"] == 0
        await github.change_settings(rate_limit=100)
        await github.api("GET", f"/repos/{scene.name}", token=token)


async def test_restarted_standin_remembers_everything(tmp_path: Path) -> None:
    async with running(tmp_path) as github:
        scene = await make_scene(github, private=False)
        await github.open_issue(scene.name, "still here", token=scene.person.token)
        token = await scene.token()
    async with running(tmp_path) as github:
        issue = await github.api("GET", f"/repos/{scene.name}/issues/1", token=token)
        assert issue["title"] == "still here"
        await github.api("GET", "/app", token=scene.app_jwt())
        await github.api("GET", f"/repos/{scene.name}/branches/main", token=token)
        later = await github.open_issue(scene.name, "next", token=scene.person.token)
        assert later["number"] == 2
