"""Where deliveries wait for ingest, in memory and within bounds."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from patchwright_local.channel import Delivery

ROOM = 1000
"""Deliveries at most."""
ROOM_BYTES = 100 * 2**20
"""And their bodies' bytes."""


class Buffer:
    """What was heard and is not with ingest yet, in order."""

    def __init__(self, *, room: int = ROOM, room_bytes: int = ROOM_BYTES) -> None:
        self._room = room
        self._room_bytes = room_bytes
        self._waiting: deque[Delivery] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, delivery: Delivery) -> bool:
        """False when there is no room for it. One alone always fits."""
        size = self._bytes + len(delivery.body)
        if self._waiting and (len(self._waiting) >= self._room or size > self._room_bytes):
            return False
        self._waiting.append(delivery)
        self._bytes = size
        self._filled.set()
        self._emptied.clear()
        return True

    async def first(self) -> Delivery:
        """The oldest, once there is one; it stays until `done`."""
        await self._filled.wait()
        return self._waiting[0]

    def done(self) -> None:
        """The oldest is settled."""
        self._bytes -= len(self._waiting.popleft().body)
        if not self._waiting:
            self._filled.clear()
            self._emptied.set()

    async def empty(self) -> None:
        """Return when nothing waits."""
        await self._emptied.wait()

    def ids(self) -> list[str]:
        """Of those that wait, the oldest first."""
        return [delivery.id for delivery in self._waiting]
