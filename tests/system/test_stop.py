"""People stop jobs on the whole stack: soon, with one visible result, and nothing is pushed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import Any

import psutil
import pytest

from harness.stack import RunningStack
from patchwright_local.demo import BODY, TITLE
from standin_model.scripting import bash, issue_with_script

STOP = "@patchwright stop"
SECONDS = 5.0
"""From the comment on GitHub to the end of the sandbox."""
SLOW = issue_with_script(
    {"tools": [bash("echo one > one.txt")], "delay": 4.0},
    {"text": "A file is new.", "delay": 1.0},
)


def asleep(nap: str) -> list[int]:
    """The processes, in whatever box, that are at this command."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline() == nap.split():
                found.append(process.pid)
    return found


async def napping(stack: RunningStack) -> tuple[int, str]:
    """An issue whose job runs a command that lasts; its number and the command."""
    nap = f"sleep 2{secrets.randbelow(10**6):06}"
    script = issue_with_script({"tools": [bash(nap)]}, {"text": "Slept."})
    number = await stack.ask("Sleep", script)
    async with asyncio.timeout(60):
        while not asleep(nap):
            await asyncio.sleep(0.05)
    return number, nap


async def say(stack: RunningStack, number: int, text: str) -> int:
    async with stack.github() as github:
        comment = await github.comment(stack.repository, number, text, token=stack.token)
    return int(comment["id"])


async def change(stack: RunningStack, method: str, path: str, body: Any = None) -> None:
    async with stack.github() as github:
        await github.api(method, f"/repos/{stack.repository}{path}", body, token=stack.token)


async def close(stack: RunningStack, number: int) -> None:
    await change(stack, "PATCH", f"/issues/{number}", {"state": "closed"})


async def awake(nap: str) -> None:
    """Return once nobody sleeps any more, which is soon."""
    began = time.monotonic()
    while asleep(nap):
        assert time.monotonic() - began < SECONDS, "it goes on"
        await asyncio.sleep(0.05)


async def assert_stopped(stack: RunningStack, number: int, *, jobs: int = 1) -> list[str]:
    """Every job has its one comment, nothing was pushed; the comments."""
    await stack.until(number, "job.finished", count=jobs)
    await asyncio.sleep(1.0)
    assert (await stack.until(number, "job.finished", count=jobs))["result"] == "cancelled"
    assert await stack.pulls(number) == []
    async with stack.github() as github:
        state = await github.state()
    assert not [p for p in state["pushes"] if f"patchwright/{number}-" in p["ref"]]
    comments = [comment["body"] for comment in await stack.comments(number)]
    assert len(comments) == jobs
    assert all("### 🛑 Stopped" in comment for comment in comments)
    verbs = [subject.split(".")[3] for _, subject in await stack.events(number)]
    assert verbs.count("cancelled") == verbs.count("finished") == jobs
    assert not {"produced", "failed"} & set(verbs)
    return comments


async def test_stop_while_a_command_runs_ends_it_within_five_seconds(
    each_stack: RunningStack,
) -> None:
    number, nap = await napping(each_stack)
    await say(each_stack, number, STOP)
    await awake(nap)
    [comment] = await assert_stopped(each_stack, number)
    assert "told me to stop" in comment


async def test_stop_ends_the_running_job_and_the_one_that_waits_behind_it(
    stack: RunningStack,
) -> None:
    number, nap = await napping(stack)
    await say(stack, number, "@patchwright, and another thing")
    await stack.until(number, "job.requested", count=2)
    await say(stack, number, STOP)
    await awake(nap)
    await assert_stopped(stack, number, jobs=2)
    verbs = [subject.split(".")[3] for _, subject in await stack.events(number)]
    assert verbs.count("started") == 1


async def test_stop_while_the_model_thinks_and_then_asking_again(stack: RunningStack) -> None:
    number = await stack.ask("Think", SLOW)
    await stack.until(number, "job.started")
    await say(stack, number, STOP)
    await assert_stopped(stack, number)
    await say(stack, number, "@patchwright, do it after all")
    finished = await stack.until(number, "job.finished", count=2)
    assert finished["result"] == "pull_request"
    assert len(await stack.pulls(number)) == 1


async def test_closing_the_issue_stops_its_job(stack: RunningStack) -> None:
    number, nap = await napping(stack)
    await close(stack, number)
    await awake(nap)
    [comment] = await assert_stopped(stack, number)
    assert "closed the issue" in comment


async def test_deleting_the_comment_that_asked_stops_its_job(stack: RunningStack) -> None:
    number = await stack.ask("Asked by a comment", SLOW, label=False)
    asking = await say(stack, number, "@patchwright, please")
    await stack.until(number, "job.started")
    await change(stack, "PATCH", f"/issues/comments/{asking}", {"body": STOP})
    await change(stack, "DELETE", f"/issues/comments/{asking}")
    [comment] = await assert_stopped(stack, number)
    assert "deleted the comment that asked" in comment


@pytest.mark.parametrize("deed", ["close", "stop"])
async def test_stop_after_the_result_is_no_noise(stack: RunningStack, deed: str) -> None:
    """Merging the pull request closes the issue that it fixes."""
    number = await stack.ask(TITLE, BODY)
    await stack.settled(number)
    before = await stack.comments(number)
    if deed == "close":
        await close(stack, number)
    else:
        await say(stack, number, STOP)
    async with stack.github() as github:
        await github.settled()
    await asyncio.sleep(2.0)
    assert await stack.comments(number) == before
    assert "cancelled" not in {s.split(".")[3] for _, s in await stack.events(number)}


async def test_services_killed_while_they_stop_a_job_stop_it_once(stack: RunningStack) -> None:
    number, _ = await napping(stack)
    async with stack.github() as github:
        await github.fault("GET", "/collaborators/", delay=1.0)
        await github.fault("PATCH", "/issues/comments/", delay=1.0, after=True, drop=True)
    await say(stack, number, STOP)
    await asyncio.sleep(0.5)
    processes = stack.processes()
    processes["triage"].kill()
    await stack.until(number, "job.cancelled", timeout=90)
    for service in ("publisher", "runner", "nats-server"):
        processes[service].kill()
    await stack.until(number, "job.finished", timeout=90)
    await assert_stopped(stack, number)
