"""A command's own connection to NATS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from nats.aio.client import Client

from patchwright_common.permissions import inbox
from patchwright_common.requests import OPERATOR

CONNECT_TIMEOUT = 5
"""Seconds."""


@asynccontextmanager
async def connected(
    nats_url: str, nkey_file: Path | None, *, identity: str = OPERATOR, attempts: int = 1
) -> AsyncIterator[Client]:
    """Connected, and closed at the end. Raises what nats-py raises.

    `nats_url` may name several servers, by commas. `nkey_file` is the seed of `identity`; without
    one the URL has to say who asks.
    """
    client = await nats.connect(
        [url.strip() for url in nats_url.split(",")],
        nkeys_seed=str(nkey_file) if nkey_file else None,
        inbox_prefix=inbox(identity),
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
