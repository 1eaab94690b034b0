"""Never twice: the same message again, at every consumer, in every form an operator can send it."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
import pytest_asyncio

from harness.stack import RunningStack
from harness.stored import messages_of
from patchwright_common import flow
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims, Outcome
from patchwright_common.credentials import Vault
from patchwright_common.errors import Permanent
from patchwright_local.demo import BODY, TITLE
from patchwright_local.replay import replay
from patchwright_publisher.results import token_request

EVENTS = sorted({flow.route_of(c).prefix for c in flow.consumers() if "evt" in c.subjects[0]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def finished(stack: RunningStack) -> int:
    """An issue whose job has ended in a pull request."""
    number = await stack.ask(TITLE, BODY)
    await stack.settled(number)
    return number


async def _labelled(stack: RunningStack) -> list[int]:
    """Where the stream of deliveries holds that a label was set, oldest first."""
    async with stack.nats() as client:
        js = client.jetstream(timeout=5)
        labelled = messages_of(js, "PW_GITHUB", "pw.github.issues.labeled.>")
        return [message.seq or 0 async for message in labelled]


async def _idle(stack: RunningStack) -> None:
    """Return when no consumer has anything left to do. Fails after 30 s, naming who has."""
    deadline = time.monotonic() + 30
    async with stack.nats() as client:
        js = client.jetstream(timeout=5)
        for consumer in flow.consumers():
            stream = flow.route_of(consumer).stream.name
            while (info := await js.consumer_info(stream, consumer.name)) and (
                info.num_pending or info.num_ack_pending
            ):
                assert time.monotonic() < deadline, info
                await asyncio.sleep(0.05)


async def _looks(stack: RunningStack, number: int) -> tuple[list[str], list[str]]:
    pulls = [pull["head_ref"] + pull["body"] for pull in await stack.pulls(number)]
    return pulls, [comment["body"] for comment in await stack.comments(number)]


@pytest.mark.parametrize("prefix", EVENTS)
async def test_event_sent_again_changes_nothing(
    stack: RunningStack, finished: int, prefix: str
) -> None:
    before = await _looks(stack, finished)
    mine = [s for s, subject in await stack.events(finished) if subject.startswith(f"{prefix}.")]

    for sequence in mine:
        await replay(stack.at.nats_url, stack.at.nkey(), "events", sequence, as_new=False)
    await _idle(stack)

    assert await _looks(stack, finished) == before


async def test_events_of_a_job_that_ended_long_ago_change_nothing_and_fail_nothing(
    stack: RunningStack,
) -> None:
    """The vault gives no token for it any more, so nobody may need one."""
    number = await stack.ask(TITLE, BODY)
    job_id = (await stack.settled(number))["job_id"]
    async with stack.nats("publisher") as client:
        claims, bus = await Claims.open(client.jetstream(timeout=5)), Bus(client)
        await claims.change(f"outcome.{job_id}", Outcome, _a_day_ago)
        request = token_request(await bus.job(job_id))
        with pytest.raises(Permanent, match="has ended"):
            await Vault(bus, "publisher").token(request)
    before, letters = await _looks(stack, number), await _letters(stack)

    for sequence, subject in await stack.events(number):
        if ".grant." not in subject:
            await replay(stack.at.nats_url, stack.at.nkey(), "events", sequence, as_new=False)
    await _idle(stack)

    assert await _looks(stack, number) == before
    assert await _letters(stack) == letters
    assert not [name for _, name in await stack.events(number) if ".job.failed." in name]


def _a_day_ago(outcome: Outcome | None) -> Outcome:
    assert outcome is not None
    assert outcome.reported_at is not None
    return outcome.model_copy(update={"reported_at": outcome.reported_at - timedelta(days=1)})


async def _letters(stack: RunningStack) -> int:
    async with stack.nats() as client:
        return int((await client.jetstream(timeout=5).stream_info("PW_DLQ")).state.messages)


async def test_delivery_sent_as_it_was_makes_no_second_result(
    stack: RunningStack, finished: int
) -> None:
    before = await _looks(stack, finished)
    for sequence in await _labelled(stack):
        await replay(stack.at.nats_url, stack.at.nkey(), "github", sequence, as_new=False)
    await _idle(stack)

    assert await _looks(stack, finished) == before


async def test_redelivery_by_github_makes_no_second_result(stack: RunningStack) -> None:
    number = await stack.ask(TITLE, BODY)
    await stack.settled(number)
    before = await _looks(stack, number)
    async with stack.github() as github:
        deliveries = [d for d in (await github.state())["deliveries"] if d["event"] == "issues"]
        for delivery in deliveries[-2:]:
            await stack.redeliver(delivery["id"])
    await asyncio.sleep(0.5)
    await _idle(stack)

    assert await _looks(stack, number) == before


async def test_delivery_sent_as_new_makes_a_second_attempt(stack: RunningStack) -> None:
    number = await stack.ask(TITLE, BODY)
    await stack.settled(number)
    labelled = (await _labelled(stack))[-1]

    await replay(stack.at.nats_url, stack.at.nkey(), "github", labelled, as_new=True)

    second = await stack.until(number, "job.finished", count=2)
    assert second["job_id"].endswith("-issue-2")
    assert len(await stack.pulls(number)) == 2
    assert len(await stack.comments(number)) == 2


async def test_label_set_again_after_the_result_asks_again(stack: RunningStack) -> None:
    number = await stack.ask("A question", "What does `greet` do?")
    await stack.settled(number)
    await asyncio.sleep(1.1)  # GitHub's clock counts in seconds
    async with stack.github() as github:
        await github.unlabel(stack.repository, number, "patchwright", token=stack.token)
        await github.label(stack.repository, number, "patchwright", token=stack.token)

    second = await stack.until(number, "job.finished", count=2)

    assert second["job_id"].endswith("-issue-2")
