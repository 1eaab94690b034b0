"""Serve the stand-in on a port of its own, for the command line and for tests in one process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

START_SECONDS = 10.0


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class QuietServer(uvicorn.Server):
    """Leaves the process's signals to its owner."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Starlette) -> uvicorn.Server:
    """Quiet in its log too: a torn stream is part of the script, not an error."""
    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    return QuietServer(config)


@asynccontextmanager
async def running(app: Starlette, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The URL at which `app` answers until the block ends."""
    listener = listen(host, port)
    serving = server(app)
    task = asyncio.create_task(serving.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(START_SECONDS):
            while not serving.started:
                await asyncio.sleep(0.005)
        yield url_of(listener)
    finally:
        serving.should_exit = True
        await task
        listener.close()
