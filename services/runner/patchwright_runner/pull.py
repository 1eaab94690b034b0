"""The runner's own fetch loop, because its messages take minutes to hours.

FastStream joins each batch before it fetches the next and does not heartbeat what it
holds: a short job would wait behind a long one. Here a message is fetched only into a
free slot, and `Deliveries.process` heartbeats it from that moment on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import nats.errors

from patchwright_common.bus import Bus
from patchwright_common.flow import Consumer, route_of
from patchwright_common.messaging import Deliveries, Handler

log = logging.getLogger(__name__)

FETCH_TIMEOUT = 5.0
"""Seconds that one request for a message waits at the server."""
PAUSE = 0.5
"""Seconds before asking again when NATS is away."""
STOP_TIMEOUT = 20.0
"""Seconds in which running jobs put their boxes away when the runner is told to stop."""


class PullLoop:
    """Runs `handle` for up to `slots` messages of `consumer` at once."""

    def __init__(self, bus: Bus, deliveries: Deliveries, consumer: Consumer, slots: int) -> None:
        self._bus = bus
        self._deliveries = deliveries
        self._consumer = consumer
        self._slots = asyncio.Semaphore(slots)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, handle: Handler) -> None:
        """Until cancelled; then what is running is cancelled too and handed back."""
        subscription = await self._bus.js.pull_subscribe_bind(
            durable=self._consumer.name, stream=route_of(self._consumer).stream.name
        )
        try:
            while True:
                await self._slots.acquire()
                try:
                    [message] = await subscription.fetch(1, timeout=FETCH_TIMEOUT)
                except (nats.errors.Error, TimeoutError, OSError, ValueError) as error:
                    self._slots.release()
                    if not isinstance(error, TimeoutError):
                        log.warning("no message could be fetched: %r", error)
                        await asyncio.sleep(PAUSE)
                    continue
                except BaseException:
                    self._slots.release()
                    raise
                task = asyncio.create_task(
                    self._deliveries.process(message, self._consumer, handle)
                )
                self._running.add(task)
                task.add_done_callback(self._ended)
        finally:
            await self._stop()
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()

    async def _stop(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=STOP_TIMEOUT)
