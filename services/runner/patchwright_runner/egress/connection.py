"""One connection from the sandbox: read, judged, recorded, made, and relayed or refused."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from http import HTTPStatus

import h11

from patchwright_runner.egress.allowlist import PORTS, Allowlist, Target
from patchwright_runner.egress.dialing import Dialer, Streams
from patchwright_runner.egress.ledger import Ledger
from patchwright_runner.egress.plain import Document
from patchwright_runner.egress.refusal import Refusal, answer
from patchwright_runner.egress.relay import closing
from patchwright_runner.egress.reports import Contact, Purpose
from patchwright_runner.egress.request import Wanted, named, receive, wanted
from patchwright_runner.egress.tunnel import ESTABLISHED, tunnel

log = logging.getLogger(__name__)

LINGER_SECONDS = 5.0
"""For what was written last to be read."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What all connections of a proxy have in common."""

    allowlist: Allowlist
    ledger: Ledger
    purpose: Purpose
    dialer: Dialer

    def check(self, target: Target) -> None:
        """Whether its name is allowed. Raises `Refusal`."""
        if self.allowlist.allows(target):
            return
        reason = f"{target} is not on this job's list of allowed hosts."
        if target.scheme == "http" and self.allowlist.allows(
            Target("https", target.host, PORTS["https"])
        ):
            reason = f"Plain http is not allowed for {target.host}: use https."
        advice = (
            f"Allowed for the {self.purpose} of this job: {self.allowlist}.\n"
            "A repository asks for hosts under `egress` in its configuration, and the operator "
            "of Patchwright has to permit them."
        )
        raise Refusal(HTTPStatus.FORBIDDEN, reason, advice)


class Connection:
    """Serves one request, then closes."""

    def __init__(self, rules: Rules, client: Streams) -> None:
        self._rules = rules
        self._ledger = rules.ledger
        self._client = client
        self._http = h11.Connection(
            h11.SERVER, max_incomplete_event_size=rules.ledger.limits.head_bytes
        )
        self._name, self._port = "", 0
        self._answered = False

    async def serve(self) -> None:
        """Raises nothing that another end can bring about."""
        try:
            async with (
                closing(self._client, LINGER_SECONDS),
                asyncio.timeout(self._ledger.limits.connection_seconds),
            ):
                await self._serve()
        except OSError as error:  # TimeoutError is one
            log.debug("a connection ended early: %s", type(error).__name__)

    async def _serve(self) -> None:
        try:
            request = await self._receive()
            if request is not None:
                await self._judge(request)
        except Refusal as refusal:
            if not self._answered:
                self._client[1].write(answer(refusal))
            if refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                await self._ledger.refuse(
                    self._rules.purpose, self._name, self._port, refusal.reason
                )

    async def _receive(self) -> h11.Request | None:
        seconds = self._ledger.limits.opening_seconds
        try:
            async with asyncio.timeout(seconds):
                return await receive(self._http, self._client[0])
        except TimeoutError:
            reason = f"No request came in {seconds:g} seconds."
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, reason) from None

    async def _judge(self, request: h11.Request) -> None:
        self._name = named(request)
        found = wanted(request)
        self._name, self._port = found.target.host, found.target.port
        self._rules.check(found.target)
        contact = await self._ledger.contact(self._rules.purpose, self._name, self._port)
        upstream = await self._rules.dialer.dial(found.target)
        async with closing(upstream, LINGER_SECONDS):
            if found.path:
                await self._fetch(found, request, upstream, contact)
            else:
                await self._tunnel(upstream, contact)

    async def _tunnel(self, upstream: Streams, contact: Contact) -> None:
        early, _ = self._http.trailing_data
        self._answered = True
        self._client[1].write(ESTABLISHED)
        await tunnel(self._client, upstream, early, contact, self._ledger)

    async def _fetch(
        self, found: Wanted, request: h11.Request, upstream: Streams, contact: Contact
    ) -> None:
        self._http.next_event()  # the end of a request without a body
        document = Document(self._http, self._client, upstream, contact, self._ledger)
        try:
            await document.fetch(found, request)
        finally:
            self._answered = document.begun
