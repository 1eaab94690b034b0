"""Refuses to serve at a NATS that does not keep the services apart.

The vault believes the subject of a request, because only that identity may publish there.
Where the server enforces no permissions, anybody could ask in anybody's name.
"""

from __future__ import annotations

import asyncio
import contextlib

import nats

from patchwright_common.bus import AWAY, flush
from patchwright_common.errors import Permanent, Retry
from patchwright_common.permissions import inbox
from patchwright_common.service import ServiceSettings, seed_file

TIMEOUT = 3.0
"""Seconds in which a server that enforces permissions has said so."""
FOREIGN = f"{inbox('runner')}.border.>"
"""Replies to another service: no vault may hear them."""


async def check_borders(settings: ServiceSettings) -> None:
    """Raises `Permanent` unless the server refuses what it must, `Retry` when it is away."""
    refused = asyncio.Event()

    async def note(error: Exception) -> None:
        if FOREIGN.lower() in str(error).lower():
            refused.set()

    try:
        # A connection of its own: the refusal that is wanted would be logged as a fault.
        client = await nats.connect(
            settings.nats_urls,
            nkeys_seed=seed_file(settings.nats_nkey_file),
            inbox_prefix=inbox("vault"),
            connect_timeout=int(TIMEOUT),
            allow_reconnect=False,
            error_cb=note,
        )
        try:
            await client.subscribe(FOREIGN)
            # A server that is slow is no server that refuses nothing.
            await flush(client)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(refused.wait(), TIMEOUT)
            connected = client.is_connected
        finally:
            await client.close()
    except AWAY as error:
        raise Retry(f"NATS did not answer: {type(error).__name__}") from None
    if refused.is_set():
        return
    if not connected:
        raise Retry("NATS went away while it was looked at.")
    raise Permanent(
        "NATS does not keep the services apart: the vault could hear what is said to the runner. "
        "No secret was handed out.",
        advice="Start nats-server with deploy/nats/server.conf.",
    )
