"""What runs beside a service goes on whatever happens to it, and ends with it."""

from __future__ import annotations

import asyncio

import pytest

from patchwright_common.beside import cancel_until_done, repeated
from patchwright_common.errors import Retry


async def test_failure_of_any_kind_is_logged_and_does_not_end_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends: list[Exception] = [Retry("NATS is away"), ValueError("nobody foresaw this")]
    done = asyncio.Event()

    async def work() -> None:
        if ends:
            raise ends.pop(0)
        done.set()

    async with repeated(work, pause=0.01, what="swept"):
        await asyncio.wait_for(done.wait(), 10)
    assert "not swept: NATS is away" in caplog.text
    assert "nobody foresaw this" in caplog.text


@pytest.mark.parametrize(("at_once", "times"), [(True, 1), (False, 0)])
async def test_first_time_is_at_once_or_after_a_pause(at_once: bool, times: int) -> None:
    calls = []

    async def work() -> None:
        calls.append(1)

    async with repeated(work, pause=60, what="swept", at_once=at_once):
        await asyncio.sleep(0.05)
    assert len(calls) == times


async def test_it_ends_with_its_context_in_the_middle_of_its_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with repeated(work, pause=60, what="swept", at_once=True):
        await asyncio.sleep(0.05)
    assert ended.is_set()


async def _deaf(times: int) -> None:
    """As a loop around what loses cancellations."""
    while True:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            if not times:
                raise
            times -= 1


async def test_task_that_lost_its_cancellation_is_cancelled_again() -> None:
    tasks = [asyncio.create_task(_deaf(times)) for times in (0, 2)]
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel_until_done(*tasks, patience=0.01), 5)
    assert [task.cancelled() for task in tasks] == [True, True]


async def test_task_that_never_listens_is_left_after_so_many_times() -> None:
    task = asyncio.create_task(_deaf(3))
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel_until_done(task, patience=0.01, times=2), 5)
    assert not task.done()
    await asyncio.wait_for(cancel_until_done(task, patience=0.01), 5)
