"""What GitHub could not hand over comes in by itself, and each issue still has one result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import signals
from harness.stack import RunningStack, running_stack
from patchwright_ingest.trigger import LABEL
from standin_model.scripting import bash, issue_with_script

BRIEF = "1"
"""Seconds between two looks at the delivery log."""
QUICK = issue_with_script({"tools": [bash("echo one > one.txt")]}, {"text": "A file is new."})


@pytest.fixture(scope="module", name="stack")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    root: Path = tmp_path_factory.mktemp("missed")
    with running_stack(root, "auto", PATCHWRIGHT_RECOVERY_INTERVAL=BRIEF) as running:
        yield running


async def opened(stack: RunningStack, title: str) -> int:
    """Without waiting for ingest."""
    async with stack.github() as github:
        issue = await github.open_issue(
            stack.repository, title, QUICK, token=stack.token, labels=[LABEL]
        )
    return int(issue["number"])


async def failed(stack: RunningStack) -> list[dict[str, object]]:
    """Attempts about issues that were not taken in."""
    async with stack.github() as github:
        await github.settled()
        log = (await github.state())["deliveries"]
    return [d for d in log if d["event"] == "issues" and d["status_code"] != 202]


async def exactly_one(stack: RunningStack, number: int) -> None:
    finished = await stack.settled(number, timeout=90)
    assert finished["result"] == "pull_request"
    assert finished["job_id"].endswith("-1")
    assert len(await stack.pulls(number)) == 1
    [comment] = await stack.comments(number)
    assert finished["url"] in comment["body"]


async def missed(stack: RunningStack, title: str, count: int) -> list[int]:
    """Issues that were opened while ingest was down, before its supervisor started it again."""
    await stack.ready()
    before = len(await failed(stack))
    stack.kill("ingest")
    numbers = [await opened(stack, f"{title} {n}") for n in range(count)]
    assert len(await failed(stack)) >= before + count
    return numbers


async def test_issues_opened_while_ingest_is_down_end_in_one_pull_request_each(
    stack: RunningStack,
) -> None:
    for number in await missed(stack, "Missed", 3):
        await exactly_one(stack, number)


async def test_ingest_killed_in_the_middle_of_the_recovery_loses_and_doubles_nothing(
    stack: RunningStack,
) -> None:
    numbers = await missed(stack, "Missed again", 3)
    for _ in range(3):
        # Some of them were asked for, some only noted down.
        await stack.ready()
        async with asyncio.timeout(60):
            said = stack.log().count("asking GitHub to send it again")
            while stack.log().count("asking GitHub to send it again") == said:
                await asyncio.sleep(0.05)
        stack.kill("ingest")
    for number in numbers:
        await exactly_one(stack, number)


async def test_vault_that_is_away_meanwhile_only_delays(stack: RunningStack) -> None:
    [number] = await missed(stack, "Missed without a vault", 1)
    vault = stack.processes()["vault"]
    signals.pause(vault.pid)
    await asyncio.sleep(3.0)
    signals.wake(vault.pid)
    await exactly_one(stack, number)


async def test_issues_refused_for_a_wrong_secret_come_in_once_it_is_right(
    stack: RunningStack,
) -> None:
    await stack.ready()
    made = json.loads((stack.folder.root / "demo.json").read_text())
    async with stack.github() as github:
        app_id = int(made["app_id"])
        await github.change_app(app_id, webhook_secret="mistyped")
        numbers = [await opened(stack, f"Refused {n}") for n in range(2)]
        assert {d["status_code"] for d in (await failed(stack))[-2:]} == {401}
        await asyncio.sleep(3)  # sent again, and refused again
        assert not [e for number in numbers for e in await stack.events(number)]
        await github.change_app(app_id, webhook_secret=made["webhook_secret"])
    for number in numbers:
        await exactly_one(stack, number)
