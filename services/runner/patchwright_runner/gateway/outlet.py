"""The client's end of an answer: gone, slow or there, the reply is counted all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from starlette.types import Message, Scope, Send

TEAR = "patchwright.tear"
"""Where a connection leaves the way to break it, in the state of its requests."""


class Outlet:
    """Sends one answer. `stall` is how long a client may leave it unread, in seconds."""

    def __init__(self, scope: Scope, send: Send, stall: float) -> None:
        self._send = send
        self._tear: Callable[[], None] = scope["state"][TEAR]
        self._stall = stall
        self._torn = False
        self.begun = False

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin the answer, at once."""
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._pass({"type": "http.response.start", "status": status, "headers": raw})

    async def send(self, data: bytes) -> None:
        """A piece of the body, at once."""
        if data:
            await self._pass({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Nothing more comes, and that is right."""
        await self._pass({"type": "http.response.body", "body": b"", "more_body": False})

    def tear(self) -> None:
        """Break the connection, so that half a reply is not taken for a whole one."""
        self._torn = True
        self._tear()

    async def _pass(self, message: Message) -> None:
        """To a client that has gone, the server sends nothing, and does not complain."""
        if self._torn:
            return
        self.begun = True
        try:
            async with asyncio.timeout(self._stall):
                await self._send(message)
        except TimeoutError:
            self.tear()
