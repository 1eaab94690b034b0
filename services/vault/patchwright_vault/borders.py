"""Refuses to serve at a NATS that does not keep the services apart.

The vault believes the subject of a request, because only that identity may publish there.
Where the server enforces no permissions, anybody could ask in anybody's name.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from patchwright_common.bus import AWAY
from patchwright_common.errors import Permanent, Retry
from patchwright_common.permissions import BORDER

if TYPE_CHECKING:
    from nats.aio.client import Client

REFUSAL_TIMEOUT = 3.0
"""Seconds in which a server that enforces permissions has said so."""


async def check_borders(client: Client) -> None:
    """Raises `Permanent` unless the server refuses what it must, `Retry` when it is away."""
    before = client.last_error
    try:
        subscription = await client.subscribe(BORDER)
        try:
            await client.flush(timeout=int(REFUSAL_TIMEOUT))
            async with asyncio.timeout(REFUSAL_TIMEOUT):
                # The refusal comes after the answer to the flush.
                while not _is_refusal(client.last_error, before):  # noqa: ASYNC110  no callback
                    await asyncio.sleep(0.01)
        finally:
            await subscription.unsubscribe()
    except TimeoutError:
        if client.is_connected:
            raise Permanent(
                "NATS does not keep the services apart: the vault could hear what is said to the "
                "runner. No secret was handed out.",
                advice="Start nats-server with deploy/nats/server.conf.",
            ) from None
        raise Retry("NATS went away while the vault looked at its permissions") from None
    except AWAY as error:
        raise Retry(f"NATS did not answer: {type(error).__name__}") from None


def _is_refusal(error: Exception | None, before: Exception | None) -> bool:
    return error is not before and BORDER.lower() in str(error).lower()
