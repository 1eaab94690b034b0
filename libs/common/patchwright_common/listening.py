"""Serving HTTP: a socket bound by us, and a uvicorn that leaves the signals to us."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from patchwright_common.errors import Permanent


class Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn raises them again, which ends the process on the spot."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn; ends the process where it cannot listen."""
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Called by uvicorn around its life."""
        yield


def bound(host: str, port: int, *, advice: str) -> socket.socket:
    """A socket that does not listen yet: until it does, senders are turned away at once.

    Raises `Permanent` with `advice` when the address cannot be had.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # asyncio does this only for sockets that it made itself: each answer would wait for the
        # client's delayed acknowledgement. Connections inherit it.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise Permanent(
            f"Cannot listen on {host}:{port}: {error.strerror}.", advice=advice
        ) from None
    return found
