"""A job belongs to one epoch; whoever is overtaken stops and says nothing."""

from __future__ import annotations

import asyncio

import pytest

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.errors import Overtaken, Permanent, Retry
from patchwright_runner.ownership import CRASH_LIMIT, Ownership

JOB = "1-2-issue-1"


@pytest.fixture
async def claims(bus: Bus) -> Claims:
    return await Claims.open(bus.js)


async def test_owner_that_was_overtaken_may_not_go_on(claims: Claims) -> None:
    first = await Ownership.take(claims, JOB, "first")
    second = await Ownership.take(claims, JOB, "second")

    with pytest.raises(Overtaken):
        await first.check()
    await second.check()


async def test_work_is_cancelled_when_the_job_is_taken_over(claims: Claims) -> None:
    first = await Ownership.take(claims, JOB, "first", heartbeat=0.05)
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("put away")

    working = asyncio.create_task(first.during(work))
    await asyncio.sleep(0.1)
    await Ownership.take(claims, JOB, "second")

    with pytest.raises(Overtaken):
        await asyncio.wait_for(working, 5)
    assert ended == ["put away"]


async def test_look_that_loses_its_cancellation_does_not_hold_the_job(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python 3.11's `wait_for` does when NATS answers in that moment."""
    lost: list[str] = []

    async def beat(_self: Claims, _job_id: str, _epoch: int) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            if lost:
                raise
            lost.append("once")

    owned = await Ownership.take(claims, JOB, "first", heartbeat=0.01)
    monkeypatch.setattr(Claims, "beat", beat)
    await asyncio.wait_for(owned.during(lambda: asyncio.sleep(0.1)), 10)
    assert lost


@pytest.mark.parametrize("error", [Retry("away"), Permanent("no"), ValueError("odd")])
async def test_failure_of_an_overtaken_owner_is_not_reported(
    claims: Claims, error: Exception
) -> None:
    first = await Ownership.take(claims, JOB, "first")

    async def work() -> None:
        await Ownership.take(claims, JOB, "second")
        raise error

    with pytest.raises(Overtaken):
        await first.during(work)


async def test_attempts_that_ended_by_themselves_are_no_crashes(claims: Claims) -> None:
    async def fail() -> None:
        raise Retry("the model is away")

    for _ in range(CRASH_LIMIT + 2):
        owned = await Ownership.take(claims, JOB, "patient")
        with pytest.raises(Retry):
            await owned.during(fail)

    await Ownership.take(claims, JOB, "patient")


async def test_job_that_keeps_killing_its_runner_is_given_up(claims: Claims) -> None:
    for _ in range(CRASH_LIMIT):
        await Ownership.take(claims, JOB, "dies")

    with pytest.raises(Permanent, match=f"{CRASH_LIMIT} times"):
        await Ownership.take(claims, JOB, "careful")


async def test_stopping_the_runner_counts_as_an_end_and_not_as_a_crash(claims: Claims) -> None:
    owned = await Ownership.take(claims, JOB, "stopped")
    working = asyncio.create_task(owned.during(lambda: asyncio.sleep(30)))
    await asyncio.sleep(0.05)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    claim = await claims.claim(JOB)
    assert claim is not None
    assert (claim.epoch, claim.retries) == (1, 1)


async def test_heartbeat_survives_a_bus_that_is_away_for_a_moment(
    claims: Claims, nats: NatsServer, bus: Bus
) -> None:
    owned = await Ownership.take(claims, JOB, "steady", heartbeat=0.05)

    async def work() -> None:
        await nats.stop()
        await asyncio.sleep(0.3)
        await nats.start()
        async with asyncio.timeout(10):
            while not bus.client.is_connected:
                await asyncio.sleep(0.05)

    await owned.during(work)
    await owned.check()
