"""Connections to hosts whose names are allowed: resolved once, checked, and made to just that.

A name says nothing about where it leads. Whoever owns it can let it point into the network
around the runner, and somewhere else a second later; so the address that was checked is the
address that is connected to, and nobody looks the name up again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Protocol

from patchwright_runner.egress.addresses import Reach, reach
from patchwright_runner.egress.allowlist import Pattern, Target
from patchwright_runner.egress.refusal import Refusal

BUFFER = 16 * 1024
"""Bytes after which a stream stops reading."""
_TRIED_MAX = 4
_LOOK_UPS = 4
"""At once."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Resolver(Protocol):
    """Turns names into addresses."""

    async def addresses(self, host: str) -> Sequence[str]:
        """The best first. Raises OSError when there are none."""
        ...


class SystemResolver:
    """The one of the runner's machine.

    It has threads of its own. A look-up cannot be stopped, and where an allowed name's owner does
    not answer, many of them would keep the loop's threads from everybody else.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOK_UPS, "egress-names")

    async def addresses(self, host: str) -> Sequence[str]:
        """See `Resolver`."""
        look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [str(address[0]) for *_, address in found]


class Dialer:
    """Makes the connections. `private` are hosts that may lie in the operator's own network."""

    def __init__(self, resolver: Resolver, private: Sequence[Pattern], seconds: float) -> None:
        self._resolver = resolver
        self._private = private
        self._seconds = seconds

    async def dial(self, target: Target) -> Streams:
        """Raises `Refusal`, within `seconds`."""
        try:
            async with asyncio.timeout(self._seconds):
                addresses = await self._resolve(target.host)
                return await self._connect(addresses[:_TRIED_MAX], target)
        except TimeoutError:
            reason = f"{target} could not be reached in {self._seconds:g} seconds."
            raise Refusal(HTTPStatus.GATEWAY_TIMEOUT, reason) from None

    async def _resolve(self, host: str) -> Sequence[str]:
        """All of the addresses have to be good: who mixes in a bad one is up to something."""
        try:
            addresses = list(dict.fromkeys(await self._resolver.addresses(host)))
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise Refusal(HTTPStatus.BAD_GATEWAY, f"The name {host} has no address.")
        found = {reach(address) for address in addresses}
        if Reach.NEVER in found:
            reason = f"{host} leads to an address that nobody may reach from here."
            raise Refusal(HTTPStatus.FORBIDDEN, reason)
        if Reach.PRIVATE in found and not any(p.covers(host) for p in self._private):
            reason = f"{host} leads into a private network."
            advice = "The operator can list it as a private host."
            raise Refusal(HTTPStatus.FORBIDDEN, reason, advice)
        return addresses

    async def _connect(self, addresses: Sequence[str], target: Target) -> Streams:
        """To the first that answers; each gets its share of the time."""
        for address in addresses:
            try:
                async with asyncio.timeout(self._seconds / len(addresses)):
                    return await asyncio.open_connection(address, target.port, limit=BUFFER)
            except OSError:  # TimeoutError is one
                continue
        raise Refusal(HTTPStatus.BAD_GATEWAY, f"{target} does not take connections.")
