"""Bytes to and fro between a program in the sandbox and a host, counted, until one is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from patchwright_runner.egress.dialing import BUFFER, Streams


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Raises `TimeoutError` if what is yielded was not called for that long."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds) as timeout:

        def alive() -> None:
            if not timeout.expired():
                timeout.reschedule(loop.time() + seconds)

        yield alive


async def both(one: Coroutine[None, None, None], other: Coroutine[None, None, None]) -> None:
    """Until both have ended, or one has failed; raises what it raised."""
    tasks = [asyncio.create_task(one), asyncio.create_task(other)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    count: Callable[[int], None],
    alive: Callable[[], None],
) -> None:
    """One direction, to its end. `count` raises to stop it before the bytes are passed on."""
    while data := await reader.read(BUFFER):
        count(len(data))
        alive()
        writer.write(data)
        await writer.drain()
        alive()
    writer.write_eof()


def bounded(streams: Streams) -> Streams:
    """Hold little in memory for a side that does not read."""
    streams[1].transport.set_write_buffer_limits(high=BUFFER)
    return streams


@asynccontextmanager
async def closing(streams: Streams, seconds: float) -> AsyncIterator[Streams]:
    """Ends with the connection closed: what is left to send has `seconds` after a good end."""
    writer = streams[1]
    try:
        yield bounded(streams)
        writer.close()
        async with asyncio.timeout(seconds):
            await writer.wait_closed()
    finally:
        writer.transport.abort()
