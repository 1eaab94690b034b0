"""What no retry could cure: told on the issue once, and asked for again by an operator."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from harness import signals
from harness.stack import RunningStack
from standin_model.scripting import bash, issue_with_script

QUICK = issue_with_script({"tools": [bash("echo one > one.txt")]}, {"text": "A file is new."})


def dlq(stack: RunningStack, *words: str) -> str:
    """`just dlq …` beside the stack."""
    command = (str(Path(sys.executable).parent / "patchwright"), "dlq", *words)
    environment = {
        "PATH": os.environ["PATH"], "PATCHWRIGHT_HOME": str(stack.folder.root), "COLUMNS": "250",
    }  # fmt: skip
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_job_that_became_a_dead_letter_is_told_once_and_redriven_as_an_attempt(
    stack: RunningStack,
) -> None:
    await stack.ready()
    runner = stack.processes()["runner"].pid
    signals.pause(runner)
    try:
        number = await stack.ask("Dies on the bus", QUICK)
        requested = await stack.until(number, "job.readied")
        job_id = requested["job_id"]
        async with stack.nats() as client:
            subject = f"pw.evt.change.produced.{job_id}"
            await client.jetstream(timeout=5).publish(subject, b"{}", stream="PW_EVENTS")
        finished = await stack.settled(number)
        assert finished["result"] == "failure"
        [comment] = await stack.comments(number)
        [line] = [line for line in dlq(stack, "list").splitlines() if job_id in line]
        assert "publisher-change-produced" in line
        sequence = line.split()[0]
        shown = dlq(stack, "show", sequence)
        [trace] = [row.split("/")[-1] for row in shown.splitlines() if row.startswith("trace ")]
        assert trace in comment["body"]
    finally:
        signals.wake(runner)

    assert "another attempt begins" in dlq(stack, "redrive", sequence)

    second = await stack.until(number, "job.finished", count=2, timeout=90)
    assert (second["job_id"][-2:], second["result"]) == ("-2", "pull_request")
    await asyncio.sleep(1)
    assert len(await stack.pulls(number)) == 1
    assert len(await stack.comments(number)) == 2
    assert job_id not in dlq(stack, "list")


async def test_request_that_triage_cannot_prepare_is_told_with_its_trace(
    stack: RunningStack,
) -> None:
    await stack.ready()
    async with stack.github() as github:
        message = {"message": "Resource not accessible by integration"}
        await github.fault("GET", "/branches/", status=403, body=message)
    number = await stack.ask("Not accessible", QUICK)
    finished = await stack.settled(number)
    assert finished["result"] == "failure"
    [comment] = await stack.comments(number)
    assert "Resource not accessible" in comment["body"]
    assert "/trace/" in comment["body"]
    assert not [s for _, s in await stack.events(number) if ".job.readied." in s]
    assert await stack.pulls(number) == []
