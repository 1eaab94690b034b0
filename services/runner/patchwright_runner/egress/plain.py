"""One document over plain HTTP, request and response both written anew from what was read.

Redirects are passed on: where they lead is asked for anew, or refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

import h11

from patchwright_runner.egress.dialing import BUFFER, Streams
from patchwright_runner.egress.ledger import Ledger
from patchwright_runner.egress.refusal import Refusal
from patchwright_runner.egress.relay import patience
from patchwright_runner.egress.reports import Contact
from patchwright_runner.egress.request import Wanted

Headers = list[tuple[bytes, bytes]]

_ONE_HOP = {
    b"connection",
    b"expect",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}


class Document:
    """A request that was allowed, on its way to `upstream` and back through `http`."""

    def __init__(
        self,
        http: h11.Connection,
        client: Streams,
        upstream: Streams,
        contact: Contact,
        ledger: Ledger,
    ) -> None:
        self._http, self._client = http, client
        self._upstream = upstream
        self._contact, self._ledger = contact, ledger
        self._other = h11.Connection(h11.CLIENT, max_incomplete_event_size=ledger.limits.head_bytes)
        self.begun = False
        """Whether the client has a part of the response."""

    async def fetch(self, wanted: Wanted, request: h11.Request) -> None:
        """Raises `Refusal`, TimeoutError, OSError."""
        async with patience(self._ledger.limits.idle_seconds) as alive:
            try:
                await self._ask(wanted, request)
                while not isinstance(event := await self._next(), h11.EndOfMessage):
                    await self._pass_on(event)
                    alive()
                await self._pass_on(event)
            except h11.ProtocolError:
                reason = f"{wanted.target} answers with what is not HTTP."
                raise Refusal(HTTPStatus.BAD_GATEWAY, reason) from None

    async def _ask(self, wanted: Wanted, request: h11.Request) -> None:
        own = {b"host", b"content-length"}
        kept = [header for header in _end_to_end(request.headers) if header[0] not in own]
        sent = h11.Request(
            method=wanted.method,
            target=wanted.path,
            headers=[(b"Host", str(wanted.target).encode()), *kept, (b"Connection", b"close")],
        )
        data = (self._other.send(sent) or b"") + (self._other.send(h11.EndOfMessage()) or b"")
        self._ledger.sent(self._contact, len(data))
        self._upstream[1].write(data)
        await self._upstream[1].drain()

    async def _next(self) -> h11.Event:
        """The next part of the response."""
        while (event := self._other.next_event()) is h11.NEED_DATA:
            data = await self._upstream[0].read(BUFFER)
            self._ledger.got(self._contact, len(data))
            self._other.receive_data(data)
        if not isinstance(event, h11.Event):
            raise h11.RemoteProtocolError("another protocol follows")
        return event

    async def _pass_on(self, event: h11.Event) -> None:
        if isinstance(event, h11.Response):
            event = h11.Response(
                status_code=event.status_code,
                headers=[*_end_to_end(event.headers), (b"Connection", b"close")],
                reason=event.reason,
            )
        elif not isinstance(event, h11.Data | h11.EndOfMessage):
            return
        data = self._http.send(event) or b""
        self.begun = True
        self._client[1].write(data)
        await self._client[1].drain()


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without those that are between two neighbours only."""
    found = list(headers)
    listed = b",".join(value for name, value in found if name == b"connection")
    dropped = _ONE_HOP | {name.strip().lower() for name in listed.split(b",")}
    if any(name == b"transfer-encoding" for name, _ in found):
        # The length then is that of the encoding, or a lie.
        dropped |= {b"content-length"}
    return [(name, value) for name, value in found if name not in dropped]
