"""How messages are fetched: one at a time, only into a free slot, heartbeats from then on.

FastStream's pull subscriber was tried for the short handlers (0.7.8). It joins each
batch before it fetches the next, so a slow message holds up the others; an idle fetch
that ends by asyncio's `TimeoutError` instead of nats-py's counts as a crash of its task,
and every restarted task stays in a list for ever; and on a connection that was closed
for good it spins without yielding.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import nats.errors
from nats.js import JetStreamContext

from patchwright_common.bus import Bus
from patchwright_common.flow import Consumer, route_of
from patchwright_common.messaging import Deliveries, Handler

log = logging.getLogger(__name__)

FETCH_TIMEOUT = 5.0
"""Seconds that one request for a message waits at the server."""
PAUSE = 0.5
"""Seconds before asking again when NATS is away."""
STOP_TIMEOUT = 20.0
"""Seconds in which running handlers put their things away when the service stops."""


class PullLoop:
    """Runs `handle` for up to `slots` messages of `consumer`, which must exist, at once."""

    def __init__(
        self,
        bus: Bus,
        consumer: Consumer,
        handle: Handler,
        *,
        slots: int | None = None,
    ) -> None:
        self._bus = bus
        self._deliveries = Deliveries(bus)
        self._consumer = consumer
        self._handle = handle
        self._slots = asyncio.Semaphore(slots or consumer.concurrency)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled; then what is running is cancelled too and handed back."""
        subscription = await self._bus.js.pull_subscribe_bind(
            durable=self._consumer.name, stream=route_of(self._consumer).stream.name
        )
        try:
            while True:
                await self._slots.acquire()
                if not await self._fetch(subscription):
                    self._slots.release()
        finally:
            # First, or what is handed back would be sent to our own open request at once; and
            # closing the connection would wait for a queue that nobody empties.
            try:
                with contextlib.suppress(nats.errors.Error, OSError):
                    await subscription.unsubscribe()
            finally:
                await self._stop()

    async def _fetch(self, subscription: JetStreamContext.PullSubscription) -> bool:
        """Whether a message came and takes up the slot."""
        try:
            [message] = await subscription.fetch(1, timeout=FETCH_TIMEOUT)
        except TimeoutError:
            return False
        except (nats.errors.Error, OSError, ValueError) as error:
            log.warning("no message could be fetched: %r", error)
            await asyncio.sleep(PAUSE)
            return False
        work = self._deliveries.process(message, self._consumer, self._handle)
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()

    async def _stop(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            # Whoever asks for our end twice must not cut theirs short.
            ending = asyncio.ensure_future(asyncio.wait(self._running, timeout=STOP_TIMEOUT))
            while not ending.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(ending)
