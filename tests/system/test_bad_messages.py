"""Random bytes and almost-right messages on every consumer: nothing crashes, blocks or gets lost.

The whole stack runs. Each bad message ends acknowledged with a word in the log, as a dead letter,
or waiting for its next try; and a real request goes through all of them behind the bad ones.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from nats.js import JetStreamContext

from harness.stack import RunningStack, running_stack
from harness.stored import messages_of
from patchwright_common import flow
from patchwright_common.flow import BODY_REFERENCE
from patchwright_local.demo import BODY, TITLE

pytestmark = pytest.mark.asyncio(loop_scope="module")
SEED = 20261128
CONSUMERS = list(flow.consumers())
SAYS = {
    flow.TRIAGE_JOB_REQUESTED.name: "is no record",
    flow.VAULT_DELIVERY_RECEIVED.name: "ignored what came as an installation's webhook",
}
"""Who acknowledges what it cannot read, and its word in the log for each."""
SHA, DIGEST = "a" * 40, "b" * 64
SPENT = {"turns": 1, "input_tokens": 1, "output_tokens": 1, "dollars": 0.1, "seconds": 1.0}
COMMON = {"epoch": 1, "model": "m", "spent": SPENT}
RIGHT: dict[str, dict[str, Any]] = {
    "JOB_REQUESTED": {
        "repository": {
            "id": 9, "full_name": "a/b", "clone_url": "http://127.0.0.1:9/a/b.git",
            "default_branch": "main", "installation_id": 1,
        },
        "issue_number": 1, "title": "t", "body": "b", "sender": "s", "base": SHA, "attempt": 1,
        "delivery_id": "d", "requested_at": "2026-01-01T00:00:00Z",
    },
    "JOB_READIED": {},
    "JOB_STARTED": {"epoch": 1, "runner": "r", "sandbox": "s"},
    "JOB_PROGRESSED": {"epoch": 1, "turn": 1, "doing": "d", "spent": SPENT},
    "CHANGE_PRODUCED": COMMON | {
        "bundle_sha256": DIGEST, "bundle_bytes": 1, "commit": SHA, "base": SHA, "summary": "s",
        "files": [{"path": "a", "status": "M"}],
    },
    "ANSWER_PRODUCED": COMMON | {"answer": "a"},
    "JOB_FAILED": {"stage": "s", "reason": "r"},
    "JOB_CANCELLED": {"by": "s", "cause": "stopped", "at": "2026-01-01T00:00:00Z"},
    "JOB_FINISHED": {"result": "answer", "url": "http://127.0.0.1:9/"},
    "DELIVERY_RECEIVED": {
        "action": "opened", "sender": {"login": "s"}, "installation": {"id": 1},
        "repository": {"id": 9, "full_name": "a/b", "default_branch": "main"},
        "issue": {
            "number": 1, "title": "@patchwright", "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
        },
    },
}  # fmt: skip
"""A message of each route that could be read, about a job or a repository that does not exist."""


def unreadable(right: dict[str, Any]) -> Iterator[bytes]:
    """What nobody can read as that message."""
    chance = random.Random(SEED)  # noqa: S311  the same bytes on each run
    yield from (chance.randbytes(size) for size in (1, 7, 300, 70_000))
    yield from (b"", b"null", b"[]", b"0", b'"x"', b"\xff\xfe{}", b"[" * 5000, b"{" * 5000)
    text = json.dumps(right | {"job_id": "x"}).encode()
    yield from (text[: len(text) // 2], text[:-1], text + b"}", text.decode().encode("utf-16"))
    for name in right:
        for wrong in (None, [[]], {"": {}}, "\udc00", "9" * 5000, -(2**70), float("nan")):
            yield json.dumps(right | {name: wrong, "job_id": 7}).encode()
    yield json.dumps({"job_id": "somebody-elses"} | right).encode()


@dataclass
class Sent:
    """What nobody can read."""

    unreadable: dict[str, set[int]] = field(default_factory=dict)
    """Sequences by route."""
    pids: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One of its own: what is about a job that nobody knows is tried again for ever."""
    with running_stack(tmp_path_factory.mktemp("bad"), "auto") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sent(stack: RunningStack) -> Sent:
    """All bad messages at once, on the subjects of every consumer."""
    found = Sent(pids={name: process.pid for name, process in stack.processes().items()})
    async with stack.nats() as client:
        js = client.jetstream(timeout=10)
        for route in flow.ROUTES:
            if route.consumers:
                await _send(js, route, found)
    return found


async def _send(js: JetStreamContext, route: flow.Route, found: Sent) -> None:
    right = RIGHT[route.name]
    bad = found.unreadable[route.name] = set()

    async def send(subject: str, body: bytes, headers: dict[str, str] | None = None) -> int:
        return (await js.publish(subject, body, stream=route.stream.name, headers=headers)).seq

    patterns = {subject for consumer in route.consumers for subject in consumer.subjects}
    for pattern in sorted(patterns):
        for number, body in enumerate(unreadable(right)):
            sequence = await send(_concrete(pattern, f"bad{number}"), body)
            if route.payload is not None or not _is_object(body):
                bad.add(sequence)
        name = "unknown"
        body = json.dumps(right | {"job_id": name}).encode()
        odd = {"traceparent": "00-zz-zz-zz", "x-github-delivery": "", BODY_REFERENCE: DIGEST}
        for headers in ({}, odd if route.payload is None else {"traceparent": "nonsense"}):
            await send(_concrete(pattern, name), body, headers)


def _is_object(body: bytes) -> bool:
    """Of a raw delivery few fields are read, so what is wrong elsewhere need not matter."""
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _concrete(pattern: str, job_id: str) -> str:
    return pattern.replace(">", "opened.9").replace("*", job_id)


@pytest.mark.parametrize("consumer", CONSUMERS, ids=lambda consumer: consumer.name)
async def test_bad_message_blocks_nothing_and_is_not_lost(
    stack: RunningStack, sent: Sent, consumer: flow.Consumer
) -> None:
    route = flow.route_of(consumer)
    async with stack.nats() as client:
        js = client.jetstream(timeout=10)
        mine = await _mine(js, consumer, sent.unreadable[route.name])
        async with asyncio.timeout(90):
            while not await _all_ended(stack, js, consumer, mine):
                await asyncio.sleep(0.2)


async def _all_ended(
    stack: RunningStack, js: JetStreamContext, consumer: flow.Consumer, mine: set[int]
) -> bool:
    """Whether each is dead, or waits for its next try, or has its word in the log."""
    info = await _info(js, consumer)
    if info.num_pending:
        return False
    if consumer.name == flow.TRIAGE_STOP_RECEIVED.name:
        # Triage's other consumer has the same messages, and writes the dead letters.
        return not info.num_ack_pending
    left = mine - await _dead(js, consumer)
    if word := SAYS.get(consumer.name):
        return stack.log().count(word) >= len(left) and not info.num_ack_pending
    # What is about a job and must not be dropped stays, and is tried again now and then.
    return not left or (consumer.policy.limit is None and info.num_ack_pending >= len(left))


async def _info(js: JetStreamContext, consumer: flow.Consumer) -> Any:
    return await js.consumer_info(flow.route_of(consumer).stream.name, consumer.name)


async def _mine(js: JetStreamContext, consumer: flow.Consumer, sequences: set[int]) -> set[int]:
    """Those that this consumer gets; a stream's messages may be for another one."""
    found = set()
    stream = flow.route_of(consumer).stream.name
    for sequence in sequences:
        subject = (await js.get_msg(stream, seq=sequence)).subject or ""
        if any(_covers(pattern, subject) for pattern in consumer.subjects):
            found.add(sequence)
    return found


def _covers(pattern: str, subject: str) -> bool:
    return subject.startswith(pattern.rstrip(">*"))


async def _dead(js: JetStreamContext, consumer: flow.Consumer) -> set[int]:
    """Sequences of this consumer's dead letters."""
    service, entity, verb = consumer.name.split("-", 2)
    letters = messages_of(js, "PW_DLQ", f"pw.dlq.{service}.{entity}.{verb}.*")
    return {int((letter.headers or {})["Patchwright-Sequence"]) async for letter in letters}


async def test_real_request_goes_through_behind_them_and_nothing_has_crashed(
    stack: RunningStack, sent: Sent
) -> None:
    number = await stack.ask(TITLE, BODY)

    assert (await stack.settled(number))["result"] == "pull_request"

    assert len(await stack.comments(number)) == 1
    alive = {name: process.pid for name, process in stack.processes().items()}
    assert alive == sent.pids
    said = stack.log()
    assert "failed unexpectedly" not in said
    assert "could not be settled" not in said
    assert "Traceback" not in said
