"""A UNIX socket that answers HTTP: in a folder of its own, for as long as a block lasts.

Of uvicorn it takes the protocol and not the server, which needs a third of a second to stop and
wants the process's signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from patchwright_runner.gateway.outlet import TEAR

CONNECTIONS = 128
"""At once. The program in the sandbox could otherwise use up the runner's file descriptors."""
HEAD_BYTES = 8 * 1024
"""Of a request. Claude Code's has about two thousand."""
PIECE = 4 * 1024
"""Bytes that are read at once. h11 takes them apart in one go, be it a thousand headers or chunks
of one byte, and meanwhile every other job waits."""
FIRST_REQUEST_SECONDS = 60.0
"""For the head of a connection's first request."""
IDLE_SECONDS = 3600
"""Between two requests: a program that runs a long test may keep its connection."""
CLOSE_SECONDS = 5.0
ROUNDS = 5
"""Of the event loop: one that was just accepted becomes a connection, and then is told its end."""
SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 - not among the others
"""For what uvicorn says of broken requests: the sandbox must not be able to fill our log."""


@asynccontextmanager
async def listening(app: ASGIApp, path: Path) -> AsyncIterator[None]:
    """Serve at `path`; at the end whatever is under way is cancelled, within some seconds."""
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    config.load()
    state = Connections()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        server = await loop.create_unix_server(
            lambda: Connection(config, state, {}, loop), sock=listener
        )
        try:
            yield
        finally:
            # asyncio 3.11 forgets a connection that was accepted just before its server closed:
            # so first no more are accepted, and those that were find their end.
            loop.remove_reader(listener)
            await _end(state)
            server.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await server.wait_closed()


class Connections(ServerState):
    """Those that are open."""

    closing = False


async def _end(state: Connections) -> None:
    state.closing = True
    tasks = set(state.tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
    for connection in list(state.connections):
        connection.transport.abort()
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """One of not too many, and quiet. Its requests find the way to break it in their state."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: Connections,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, state, app_state, loop)
        self.logger = SILENT
        self.access_log = False
        self._open = state
        self._late: asyncio.TimerHandle | None = None
        self._piece = bytearray(PIECE)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's
        """Called by asyncio, which otherwise reads 256 KiB at once."""
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio."""
        self.data_received(bytes(self._piece[:nbytes]))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        if self._open.closing or len(self.connections) >= CONNECTIONS:
            transport.abort()
            return
        super().connection_made(transport)
        self.app_state = {TEAR: transport.abort}
        self._late = self.loop.call_later(FIRST_REQUEST_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio, also for a connection that was turned away."""
        if self._late is None:
            return
        self._late.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.abort()
