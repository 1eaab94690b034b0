"""Any service killed while a job is on its way: still one pull request and one comment."""

from __future__ import annotations

import pytest

from harness.stack import RunningStack
from standin_model.scripting import bash, issue_with_script

SERVICES = ("ingest", "triage", "runner", "publisher", "vault", "nats-server")
SLOW = issue_with_script(
    {"tools": [bash("echo one > one.txt")], "delay": 1.0},
    {"tools": [bash("echo two > two.txt")], "delay": 1.0},
    {"text": "Two files are new.", "delay": 1.0},
)


async def _exactly_one(stack: RunningStack, number: int) -> None:
    finished = await stack.settled(number, timeout=90)
    assert finished["result"] == "pull_request"
    assert len(await stack.pulls(number)) == 1
    [comment] = await stack.comments(number)
    assert finished["url"] in comment["body"]


@pytest.mark.parametrize(
    ("service", "step"),
    [*((service, "job.progressed") for service in SERVICES), ("publisher", "change.produced")],
)
async def test_service_killed_leaves_one_pull_request(
    stack: RunningStack, service: str, step: str
) -> None:
    number = await stack.ask(f"{service} dies at {step}", SLOW)
    await stack.until(number, step)

    stack.kill(service)

    await _exactly_one(stack, number)


async def test_all_services_killed_at_once_leave_one_pull_request(stack: RunningStack) -> None:
    number = await stack.ask("All die", SLOW)
    await stack.until(number, "job.progressed")

    processes = stack.processes()
    for service in SERVICES:
        processes[service].kill()

    await _exactly_one(stack, number)


async def test_delivery_while_ingest_is_down_is_marked_failed_and_can_be_sent_again(
    stack: RunningStack,
) -> None:
    await stack.ready()
    stack.kill("ingest")
    async with stack.github() as github:
        issue = await github.open_issue(
            stack.repository, "Missed", SLOW, token=stack.token, labels=["patchwright"]
        )
    async with stack.github() as github:
        deliveries = await github.settled()
        failed = [d for d in deliveries if d["event"] == "issues" and d["status_code"] != 202][-2:]
    await stack.ready()
    for delivery in failed:
        await stack.redeliver(delivery["id"])

    await _exactly_one(stack, int(issue["number"]))
