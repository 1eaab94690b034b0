"""Whatever dies at whichever step, there is one dead letter and the user is told once."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from harness.nats import NatsServer, connected
from patchwright_common.bus import TIMEOUT, Bus
from patchwright_common.errors import Permanent
from patchwright_common.messaging import Deliveries, Delivery

from .handling import (
    DEAD,
    READIED,
    Script,
    by_pulling,
    failures,
    fetch,
    messages,
    paused,
    ready,
    set_ack_wait,
    settled,
)


async def die(nats: NatsServer, where: str, times: int) -> None:
    """Let that many processes die with the message in their hands."""
    script = Path(__file__).with_name("dying.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), nats.url, where, str(times)
    )
    assert await asyncio.wait_for(process.wait(), 40) == 0


async def test_message_that_kills_its_handlers_ends_as_a_failure(
    nats: NatsServer, bus: Bus
) -> None:
    await set_ack_wait(bus, READIED, 0.3)
    sequence = await ready(bus)
    await die(nats, "handler", times=3)
    handle = Script(None)
    async with by_pulling(bus, READIED, handle):

        async def ended() -> None:
            while not await failures(bus):
                await asyncio.sleep(0.02)

        await asyncio.wait_for(ended(), 10)
        await settled(bus, READIED)
    [failed] = await failures(bus)
    [letter] = await messages(bus, DEAD)
    assert handle.seen == []
    assert letter.headers is not None
    assert letter.headers["Patchwright-Delivered"] == "4"
    assert failed.reason == "It was tried 3 times and never finished."
    assert failed.sequence == sequence


@pytest.mark.parametrize(
    ("steps", "letters", "told"),
    [("0", 0, 0), ("1", 1, 0), ("2", 1, 1)],
    ids=["before the dead letter", "before JobFailed", "before the termination"],
)
async def test_giving_up_is_completed_by_whoever_comes_next(
    nats: NatsServer, bus: Bus, steps: str, letters: int, told: int
) -> None:
    await set_ack_wait(bus, READIED, 0.3)
    await ready(bus)
    await die(nats, steps, times=2)
    assert len(await messages(bus, DEAD)) == letters
    assert len(await failures(bus)) == told
    handle = Script(Permanent("It cannot be done."))
    async with by_pulling(bus, READIED, handle):
        await handle.called(1)
        await settled(bus, READIED)
        await asyncio.sleep(0.5)
    assert len(handle.seen) == 1
    assert len(await messages(bus, DEAD)) == 1
    assert len(await failures(bus)) == 1


async def test_message_whose_handler_dies_before_the_acknowledgement_is_handled_again(
    nats: NatsServer, bus: Bus
) -> None:
    await set_ack_wait(bus, READIED, 0.3)
    await ready(bus)
    await die(nats, "acknowledgement", times=1)
    handle = Script(None)
    async with by_pulling(bus, READIED, handle):
        await handle.called(1)
        await settled(bus, READIED)
    assert [d.delivered for d in handle.seen] == [2]


async def test_silent_nats_holds_a_finished_handler_up_no_longer_than_the_time_limit(
    nats: NatsServer, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    async def pause(delivery: Delivery) -> None:
        await silence.enter_async_context(paused(nats))

    await ready(bus)
    message = await fetch(bus, READIED)
    async with AsyncExitStack() as silence, asyncio.timeout(TIMEOUT + 2):
        await Deliveries(bus).process(message, READIED, Script(pause))
    assert "+ACK not confirmed" in caplog.text


async def test_giving_up_survives_a_nats_that_restarts_meanwhile(
    nats: NatsServer, bus: Bus
) -> None:
    async def restart(delivery: Delivery) -> None:
        if delivery.delivered == 1:
            await nats.stop()
            tasks.append(asyncio.create_task(nats.start()))
        raise Permanent("It cannot be done.")

    tasks: list[asyncio.Task[None]] = []
    consumer = await set_ack_wait(bus, READIED, 1.0)
    await ready(bus)
    async with by_pulling(bus, consumer, Script(restart)):

        async def ended() -> None:
            while not tasks or not tasks[0].done() or not await failures(bus):
                await asyncio.sleep(0.05)

        await asyncio.wait_for(ended(), 20)
        await settled(bus, READIED)
    assert len(await messages(bus, DEAD)) == 1
    assert len(await failures(bus)) == 1


async def test_processes_that_share_a_durable_share_its_messages(
    nats: NatsServer, bus: Bus
) -> None:
    """Two processes share the durable: each message goes to one of them."""
    handle = Script(None)
    async with (
        connected(nats.url) as other,
        by_pulling(bus, READIED, handle),
        by_pulling(Bus(other), READIED, handle),
    ):
        for number in range(20):
            await ready(bus, f"7-1-i-{number}")
        await handle.called(20)
        await settled(bus, READIED)
    assert len({d.subject for d in handle.seen}) == len(handle.seen) == 20
