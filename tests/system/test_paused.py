"""A runner that is paused and wakes up after another took its job over: still one result."""

from __future__ import annotations

import asyncio

from harness import signals
from harness.programs import program
from harness.stack import RunningStack
from standin_model.scripting import bash, issue_with_script

SLOW = issue_with_script(
    {"tools": [bash("echo one > one.txt")], "delay": 1.0},
    {"text": "A file is new.", "delay": 1.0},
)


async def test_runner_that_wakes_after_a_takeover_adds_nothing(stack: RunningStack) -> None:
    first = stack.processes()["runner"]
    environment = first.environ() | {"PATCHWRIGHT_RUNNER_ID": "second"}
    async with program("patchwright-runner", environment=environment) as second:
        await second.line('"text": "ready')
        number = await stack.ask("Paused", SLOW)
        await stack.until(number, "job.progressed")
        started = await stack.until(number, "job.started")
        owner = second.process.pid if started["runner"].startswith("second-") else first.pid

        signals.pause(owner)
        try:
            finished = await stack.until(number, "job.finished", timeout=90)
        finally:
            signals.wake(owner)
        await asyncio.sleep(6)  # a heartbeat, at which the sleeper learns that it is late

        assert (await stack.until(number, "job.started"))["epoch"] == 2
        assert len(await stack.pulls(number)) == 1
        [comment] = await stack.comments(number)
        assert finished["url"] in comment["body"]
        assert await second.stop() == 0
