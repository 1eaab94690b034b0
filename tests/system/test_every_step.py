"""A service killed, and paused, at every step that its code names: still one result each.

A crowd of processes of the service works on issues while the stack's own one is stopped. Each
is armed for one step, and dies or stops when it first gets there. Then the healthy one is back.
At the end the paused ones are woken, and write nothing more.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from nats.js import JetStreamContext

from harness import signals
from harness.inside import stack_inside
from harness.stack import RunningStack, require
from patchwright_common.flow import PW_EVENTS
from patchwright_local.processes import Supervisor
from patchwright_runner.ownership import HEARTBEAT
from standin_model.scripting import bash, issue_with_script

from .armed_crowd import Crowd, End, crowd
from .steps_in_code import ROOT, in_code

FINISH = 240.0
"""Seconds for all issues to have their results once the healthy one is back."""
UNSEEN = ("/git-upload-pack", "/access_tokens", "/installation/token", "/attempts")
"""Ends of paths that no maintainer sees anything of."""
SERVICES = ("publisher", "runner", "triage")
KILL, PAUSE = signal.SIGKILL, signal.SIGSTOP
PULL, ANSWER = "pull_request", "answer"
FAILURE, FORBIDDEN = "failure of the agent", "failure of the publisher"
BODIES = {
    PULL: issue_with_script({"tools": [bash("echo one > one.txt")]}, {"text": "A file is new."}),
    ANSWER: issue_with_script({"text": "It is right as it is."}),
    FAILURE: "scenario: refusal",
    FORBIDDEN: issue_with_script(
        {"tools": [bash("mkdir -p .github/workflows && echo > .github/workflows/x.yml")]},
        {"text": "A workflow is new."},
    ),
}
NOT_BY_PULL = {
    "runner.answer-produced": ANSWER,
    "publisher-answer-produced.handled": ANSWER,
    "runner.attempt-ended": FAILURE,
    "runner-job-readied.dead-lettered": FAILURE,
    "runner-job-readied.failure-told": FAILURE,
    "publisher-job-failed.handled": FAILURE,
    "publisher.outcome-replaced": FORBIDDEN,
    "publisher-change-produced.dead-lettered": FORBIDDEN,
    "publisher-change-produced.failure-told": FORBIDDEN,
}
"""The kind of issue that leads to a step; a pull request leads to all others."""
_RULES = "libs/common/tests/test_delivery_rules.py::"
_CRASHES = "services/publisher/tests/test_crashes.py::"
ELSEWHERE = {
    "ingest.delivery-stored": (
        "services/ingest/tests/test_webhook_storing.py::"
        "test_delivery_that_comes_again_is_stored_once"
    ),
    # The same lines as for changes, which are played here.
    "publisher-answer-produced.dead-lettered": (
        _RULES + "test_dead_letter_is_written_before_the_user_is_told"
    ),
    "publisher-answer-produced.failure-told": (
        _RULES + "test_permanent_failure_is_kept_told_and_never_tried_again"
    ),
    "publisher-job-cancelled.handled": (
        "services/publisher/tests/test_cancelled.py::"
        "test_publisher_killed_while_it_says_so_says_it_once"
    ),
    "publisher.comment-deleted": (
        _CRASHES + "test_double_whose_deletion_was_not_confirmed_is_gone_and_the_result_stays"
    ),
    "runner.contact-told": (
        "services/runner/tests/test_egress_audit.py::"
        "test_each_host_is_reported_once_and_counted_at_the_end"
    ),
    "runner.job-readied-again": (
        "services/runner/tests/test_sweeper.py::test_two_sweepers_make_a_job_ready_once"
    ),
    "vault-delivery-received.handled": (
        _RULES + "test_message_is_acknowledged_only_after_the_effect"
    ),
    "vault-job-finished.handled": _RULES + "test_message_is_acknowledged_only_after_the_effect",
}
"""Steps that no issue leads to by itself, and the test that is about them."""


def _steps(service: str) -> dict[str, str]:
    """With the kind of issue that leads there."""
    own = (
        step
        for step in in_code() - set(ELSEWHERE)
        if step.startswith((f"{service}.", f"{service}-"))
    )
    return {step: NOT_BY_PULL.get(step, PULL) for step in sorted(own)}


@dataclass
class Play:
    """What happened."""

    stack: RunningStack
    js: JetStreamContext
    ends: set[End] = field(default_factory=set)
    paused: list[int] = field(default_factory=list)
    issues: dict[int, str] = field(default_factory=dict)
    """Their kinds."""
    finished: dict[int, dict[str, Any]] = field(default_factory=dict)
    github: dict[str, Any] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    """After the paused ones were woken."""

    async def ask(self, kind: str) -> None:
        self.issues[await self.stack.ask(f"Number {len(self.issues)}: {kind}", BODIES[kind])] = kind

    async def events(self) -> int:
        """How many there were."""
        return (await self.js.stream_info(PW_EVENTS.name)).state.last_seq


async def _perform(supervisor: Supervisor, play: Play, service: str, folder: Path) -> None:
    own = supervisor.running[service]
    await own.stop()
    async with crowd(service, own.process.environment, folder / service) as armed:
        await _end_everywhere(play, armed, service)
        await supervisor.start(own.process)
        deadline = time.monotonic() + FINISH
        for number in play.issues:
            play.finished[number] = await _finished(play.stack, number, deadline)
        before = await _all_written(play)
        for pid in play.paused:
            signals.wake(pid)
        await asyncio.sleep(HEARTBEAT + 2)
        play.written = [line for line in await _written(play) if line not in before]
        async with play.stack.github() as github:
            play.github = await github.state()


async def _end_everywhere(play: Play, armed: Crowd, service: str) -> None:
    steps = _steps(service)
    kinds = sorted(set(steps.values()), key=list(steps.values()).count)
    # A runner takes one issue and no more: each kind has a crowd of its own, the largest last,
    # because what a dead one held comes again after a while. The others see all that passes.
    for group in [[kind] for kind in kinds] if service == "runner" else [kinds]:
        ends = [(step, n) for step in steps if steps[step] in group for n in (KILL, PAUSE)]
        for end in ends:
            await armed.add(end)
        for step, _ in ends if service == "runner" else ends[::4]:
            await play.ask(steps[step])
        await armed.perform(steps, ends, play.ask, play.events)
    ended = armed.ended()
    play.ends = set(ended.values())
    play.paused = [pid for pid, (_, number) in ended.items() if number == PAUSE]


async def _finished(stack: RunningStack, number: int, deadline: float) -> dict[str, Any]:
    try:
        return await stack.until(number, "job.finished", timeout=deadline - time.monotonic())
    except AssertionError as error:
        return {"result": str(error)}


async def _all_written(play: Play) -> list[str]:
    """Once the healthy one is through as well: what it edits last comes after the result."""
    async with asyncio.timeout(60):
        found = await _written(play)
        while True:
            await asyncio.sleep(3)
            before, found = found, await _written(play)
            if before == found:
                return found


async def _written(play: Play) -> list[str]:
    """All that is written anywhere, but for tokens, heartbeats and what ingest has sent again."""
    async with play.stack.github() as github:
        requests = await github.requests()
    found = [
        f"{r['id']} {r['method']} {r['path']}"
        for r in requests
        if r["method"] not in ("GET", "HEAD") and not r["path"].endswith(UNSEEN)
    ]
    for name in ("PW_EVENTS", "KV_PW_CLAIMS", "PW_DLQ"):
        subjects = (await play.js.stream_info(name, subjects_filter=">")).state.subjects or {}
        found += [f"{subject} {count}" for subject, count in subjects.items()]
    return [line for line in found if ".grant." not in line and ".PW_CLAIMS.claim." not in line]


@pytest.mark.timeout(720)
@pytest.mark.parametrize("service", SERVICES)
async def test_service_ended_at_every_step(service: str, tmp_path: Path) -> None:
    await require("bubblewrap")
    async with (
        stack_inside(tmp_path, sandbox="bubblewrap") as (supervisor, stack),
        stack.nats() as client,
    ):
        play = Play(stack, client.jetstream(timeout=10))
        await _perform(supervisor, play, service, tmp_path)
    assert play.ends == {(step, number) for step in _steps(service) for number in (KILL, PAUSE)}
    wrong = {n: kind for n, kind in play.issues.items() if not _has_one_result(play, n, kind)}
    assert not wrong, _told(play, list(wrong))
    assert play.written == []


def _has_one_result(play: Play, number: int, kind: str) -> bool:
    finished, seen = play.finished[number], _seen(play, number)
    pulls = seen["pulls"]
    return (
        finished["result"] == kind.split(maxsplit=1)[0]
        and len(seen["comments"]) == 1
        and len(pulls) == len(seen["pushes"]) == (kind == PULL)
        and [run["external_id"] for run in seen["checks"]] == [finished["job_id"]] * len(pulls)
        and (kind != PULL or finished["url"] in seen["comments"][0]["body"])
    )


def _seen(play: Play, number: int) -> dict[str, Any]:
    """What a person sees on GitHub."""
    found = play.github
    branch = f"patchwright/{number}-"
    pulls = [row for row in found["pulls"] if row["head_ref"].startswith(branch)]
    heads = [row["head_sha"] for row in pulls]
    return {
        "comments": [
            row
            for row in found["comments"]
            if row["number"] == number and row["user"].endswith("[bot]")
        ],
        "pulls": pulls,
        "pushes": [r for r in found["pushes"] if r["ref"].startswith(f"refs/heads/{branch}")],
        "checks": [row for row in found["check_runs"] if row["head_sha"] in heads],
        "finished": play.finished[number],
    }


def _told(play: Play, wrong: list[int]) -> str:
    """What a person needs who cannot run it again."""
    seen = {n: _seen(play, n) for n in wrong[:2]}
    lines = [line for line in play.stack.log().splitlines() if f"-{wrong[0]}-issue-" in line]
    return json.dumps({"wrong": wrong, "seen": seen, "log": lines[-40:]}, indent=1, default=str)


def test_every_step_is_played_here_or_named_elsewhere() -> None:
    played = {step for service in SERVICES for step in _steps(service)}
    assert in_code() == played | set(ELSEWHERE)
    for place in ELSEWHERE.values():
        path, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text()
