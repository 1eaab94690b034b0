"""A command's own connection to NATS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client

CONNECT_TIMEOUT = 5
"""Seconds."""


@asynccontextmanager
async def connected(nats_url: str, *, attempts: int = 1) -> AsyncIterator[Client]:
    """Connected, and closed at the end. Raises what nats-py raises."""
    client = await nats.connect(
        nats_url,
        connect_timeout=CONNECT_TIMEOUT,
        max_reconnect_attempts=attempts,
        error_cb=_left_to_the_caller,
    )
    try:
        yield client
    finally:
        await client.close()


async def _left_to_the_caller(_error: Exception) -> None:
    """nats-py would print a stack trace for every try, and then raise besides."""
