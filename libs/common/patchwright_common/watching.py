"""When to ask the vault again: its records change while services run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import nats.errors
from nats.aio.subscription import Subscription

from patchwright_common import requests
from patchwright_common.bus import AWAY, flush

if TYPE_CHECKING:
    from patchwright_common.bus import Bus

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks whether NATS was away meanwhile, and with it a note."""


async def watch(bus: Bus, record: str, ask: Callable[[], Awaitable[float]]) -> None:
    """Call `ask` at once, whenever the vault says that `record` changed, and after an absence.

    `ask` returns the seconds after which it is called again in any case, and raises
    nothing. Returns only when the connection is closed for good.
    """
    try:
        notes = await bus.client.subscribe(requests.CHANGED)
        # From here on no note passes unheard; the first question comes behind it.
        await flush(bus.client)
    except nats.errors.ConnectionClosedError:
        return
    except AWAY as error:
        # The subscription is made again with the connection.
        log.warning("notes of the vault are not heard yet: %r", error)
    try:
        while not bus.client.is_closed:
            connection = bus.client.stats["reconnects"]
            due = time.monotonic() + await ask()
            while not await _noted(notes, record, due):
                if bus.client.is_closed or bus.client.stats["reconnects"] != connection:
                    break
                if time.monotonic() >= due:
                    break
    finally:
        if not bus.client.is_closed:
            await notes.unsubscribe()


async def _noted(notes: Subscription, record: str, due: float) -> bool:
    """Whether the vault spoke of `record` before `due` (monotonic), looked at for a moment."""
    patience = min(LOOK, due - time.monotonic())
    try:
        note = await notes.next_msg(timeout=max(0.01, patience))
    except nats.errors.TimeoutError:
        return False
    except nats.errors.Error:
        # A connection on its way to be closed answers at once, again and again.
        await asyncio.sleep(LOOK)
        return False
    # A stored message that somebody had delivered here keeps its own subject.
    return note.subject == requests.CHANGED and note.data == record.encode()
