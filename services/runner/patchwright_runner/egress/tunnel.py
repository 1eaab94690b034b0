"""What comes after CONNECT: TLS for the host that was asked for, its bytes passed on untouched."""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus

from patchwright_runner.egress.client_hello import UNRECOGNIZED_NAME, HelloError, server_name
from patchwright_runner.egress.dialing import Streams
from patchwright_runner.egress.hosts import HostError, normalised, shown
from patchwright_runner.egress.ledger import Ledger
from patchwright_runner.egress.refusal import Refusal
from patchwright_runner.egress.relay import both, patience, pump
from patchwright_runner.egress.reports import Contact

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_CHUNK = 4096


async def tunnel(
    client: Streams, upstream: Streams, early: bytes, contact: Contact, ledger: Ledger
) -> None:
    """Serve an answered CONNECT to its end; `early` has come with the request.

    Raises `Refusal` for what is no TLS for that host, TimeoutError, OSError.
    """
    sent, got = partial(ledger.sent, contact), partial(ledger.got, contact)
    async with asyncio.timeout(ledger.limits.opening_seconds):
        hello = await _hello(client, early, contact.host)
    sent(len(hello))
    upstream[1].write(hello)
    async with patience(ledger.limits.idle_seconds) as alive:
        await both(
            pump(client[0], upstream[1], sent, alive),
            pump(upstream[0], client[1], got, alive),
        )


async def _hello(client: Streams, data: bytes, host: str) -> bytes:
    """Everything up to the end of the client's hello, which names `host`."""
    try:
        while (name := server_name(data)) is None:
            more = await client[0].read(_CHUNK)
            if not more:
                raise HelloError("Nothing follows CONNECT that is TLS.")
            data += more
        if not _same(name, host):
            raise HelloError(f"The start of TLS is for another host: {shown(name)}.")
    except HelloError as error:
        client[1].write(UNRECOGNIZED_NAME)
        raise Refusal(HTTPStatus.FORBIDDEN, str(error)) from None
    return data


def _same(name: str, host: str) -> bool:
    try:
        return normalised(name) == host
    except HostError:
        return False
