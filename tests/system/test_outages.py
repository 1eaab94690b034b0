"""Everything that Patchwright leans on goes away for a while, and comes back: one result each.

Those of a service and of the model last seconds, or as many as PATCHWRIGHT_OUTAGE_SECONDS says:
in ten minutes the delays of the retries grow to a minute (docs/reliability.md has such a run).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness.stack import RunningStack
from standin_github.client import StandinGitHub
from standin_model.scripting import bash, issue_with_script

QUICK = issue_with_script({"tools": [bash("echo one > one.txt")]}, {"text": "A file is new."})
SLOW = issue_with_script(
    {"tools": [bash("echo one > one.txt")], "delay": 1.0},
    {"text": "A file is new.", "delay": 1.0},
)
AWAY_SECONDS = float(os.environ.get("PATCHWRIGHT_OUTAGE_SECONDS", "4"))
LATER = 120 + AWAY_SECONDS
"""Seconds until a result is there for sure: twice a retry's longest delay, and the outage."""
PLACES = ("/comments", "/pulls", "/collaborators", "/access_tokens", r"\.git/")
"""What triage, the vault, the runner and the publisher ask of GitHub, and people here do not."""
LIMITED = {"message": "API rate limit exceeded for installation ID 1."}
SECONDARY = {"message": "You have exceeded a secondary rate limit. Please wait."}
PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"


async def _one_each(stack: RunningStack, numbers: Sequence[int]) -> None:
    for number in numbers:
        async with stack.nothing_missed():
            finished = await stack.until(number, "job.finished", timeout=LATER)
        assert finished["result"] == "pull_request"
    await asyncio.sleep(1.0)  # nothing more may happen
    for number in numbers:
        [pull] = await stack.pulls(number)
        [comment] = await stack.comments(number)
        assert f"/pull/{pull['number']}" in comment["body"]


@pytest.mark.timeout(60 + LATER + AWAY_SECONDS)
@pytest.mark.parametrize("away", ["nats-server", "vault"])
async def test_jobs_that_came_while_it_was_away_end_when_it_is_back(
    stack: RunningStack, away: str
) -> None:
    numbers = [await stack.ask(f"{away} goes away", SLOW)]
    await stack.until(numbers[0], "job.started")
    async with stack.down(away), stack.github() as github:
        for n in range(2):
            issue = await github.open_issue(
                stack.repository, f"While {away} is away, {n}", QUICK,
                token=stack.token, labels=["patchwright"],
            )  # fmt: skip
            numbers.append(int(issue["number"]))
        await asyncio.sleep(AWAY_SECONDS)

    await _one_each(stack, numbers)


def _limited(seconds: float) -> dict[str, Any]:
    """The hour's quota is used up, and there is another one in a moment."""
    reset = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time() + seconds))}
    return {"status": 403, "headers": reset, "body": LIMITED}


REST = PLACES[:-1]
"""Over git, a 403 is no limit but a refusal."""
FAULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "500": lambda: {"status": 500},
    "502": lambda: {"status": 502, "body": PAGE},
    "connection cut": lambda: {"drop": True},
    "done, answer lost": lambda: {"after": True, "drop": True},
    "done, answer broken off": lambda: {"truncate": True},
    "primary rate limit": lambda: _limited(2),
    "secondary rate limit": lambda: {
        "status": 403, "headers": {"retry-after": "1"}, "body": SECONDARY,
    },
    "too many requests": lambda: {"status": 429, "headers": {"retry-after": "1"}},
}  # fmt: skip


@asynccontextmanager
async def _faulty(
    stack: RunningStack, places: Sequence[str], **fault: Any
) -> AsyncIterator[StandinGitHub]:
    """The next requests to each of the places go wrong."""
    async with stack.github() as github:
        for place in places:
            await github.fault(path=place, **fault)
        try:
            yield github
        finally:
            await github.clear_faults()


@pytest.mark.parametrize("name", FAULTS)
async def test_github_that_fails_for_a_while_costs_no_result_and_doubles_none(
    stack: RunningStack, name: str
) -> None:
    fault = FAULTS[name]()
    places = REST if fault.get("status") == 403 else PLACES
    async with _faulty(stack, places, **fault) as github:
        number = await stack.ask(f"GitHub: {name}", QUICK)
        await _one_each(stack, [number])
        met = {f["path"] for f in await github.admin("GET", "/faults") if f["hits"]}

    assert met >= {*places} - {"/access_tokens"}  # the vault may have one left


async def test_github_that_answers_too_late_has_done_it_and_it_is_not_done_again(
    stack: RunningStack,
) -> None:
    """The client gives up after 20 s; the pull request and the comment are there by then."""
    written = ("/pulls$", "/comments$")
    async with _faulty(stack, written, method="POST", delay=22.0, after=True):
        number = await stack.ask("GitHub is slow", QUICK)
        await _one_each(stack, [number])


async def test_pull_request_that_github_refuses_is_one_failure_that_says_so(
    stack: RunningStack,
) -> None:
    refused = {"message": "Validation Failed", "errors": [{"message": "No way"}]}
    fault = {"method": "POST", "status": 422, "body": refused, "times": 100}
    async with _faulty(stack, ["/pulls$"], **fault):
        number = await stack.ask("Refused", QUICK)
        finished = await stack.settled(number)

    assert finished["result"] == "failure"
    assert await stack.pulls(number) == []
    [comment] = await stack.comments(number)
    assert "422" in comment["body"]
    assert f"patchwright/{number}-" in comment["body"]  # where the work waits


@pytest.mark.timeout(60 + LATER)
@pytest.mark.parametrize(
    "overloaded",
    [{"times": 8, "retry_after": 0}, {"seconds": AWAY_SECONDS}],
    ids=["beyond the agent's own retries", "for a while"],
)
async def test_model_that_is_overloaded_costs_no_result(
    stack: RunningStack, overloaded: dict[str, float]
) -> None:
    body = issue_with_script(
        {"tools": [bash("echo one > one.txt")], "failures": [{"status": 529, **overloaded}]},
        {"text": "A file is new."},
    )
    number = await stack.ask("The model is overloaded", body)

    await _one_each(stack, [number])


@pytest.mark.timeout(300)
async def test_rolling_restart_under_load_loses_no_request_and_doubles_no_result(
    stack: RunningStack,
) -> None:
    numbers: list[int] = []

    async def ask(when: str) -> None:
        async with stack.github() as github:
            issue = await github.open_issue(
                stack.repository, when, SLOW, token=stack.token, labels=["patchwright"]
            )
        numbers.append(int(issue["number"]))

    for service in ("ingest", "triage", "vault", "runner", "publisher"):
        await ask(f"Before {service} stops")
        await asyncio.sleep(0.7)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_restarted(stack, service))
            await asyncio.sleep(0.2)
            tasks.create_task(ask(f"While {service} is away"))
    await _one_each(stack, numbers)


async def _restarted(stack: RunningStack, service: str) -> None:
    """As an upgrade does: asked to stop, and started again; until the new one says ready."""
    log = stack.folder.logs / f"{service}.log"
    before = log.read_text().count('"text": "ready')
    stack.processes()[service].send_signal(signal.SIGTERM)
    async with asyncio.timeout(45):
        while log.read_text().count('"text": "ready') == before:
            await asyncio.sleep(0.05)
