"""One job's account of its way out: what it used, which hosts, and who was told of them.

No host is contacted before that was reported. Refusals are reported too, but however many
hosts a program makes up, only the first ones have a report of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from types import TracebackType
from typing import Self

from patchwright_common.errors import PatchwrightError
from patchwright_runner.egress.limits import MEGABYTE, EgressLimits
from patchwright_runner.egress.refusal import Refusal
from patchwright_runner.egress.reports import Allowed, Contact, Ended, Purpose, Refused, Report

log = logging.getLogger(__name__)

Tell = Callable[[Report], Awaitable[None]]
"""Stores a report. Raises `PatchwrightError` when that cannot be done."""


class Ledger:
    """Serves all of a job's proxies; the last report is made when it is left."""

    def __init__(self, tell: Tell, limits: EgressLimits | None = None) -> None:
        self.limits = limits or EgressLimits()
        self.bytes_up = 0
        self.bytes_down = 0
        self._spent = ""
        self._complained = False
        self._tell = tell
        self._telling = asyncio.Lock()
        self._contacts: dict[tuple[str, str, int], Contact] = {}
        self._refused: dict[tuple[str, str, int], Refused] = {}
        self._unlisted = 0

    async def contact(self, purpose: Purpose, host: str, port: int) -> Contact:
        """Where to count a connection, once that is on record. Raises `Refusal`."""
        key = (purpose, host, port)
        if self._spent:
            raise Refusal(HTTPStatus.FORBIDDEN, self._spent)
        async with self._telling:
            if key not in self._contacts:
                await self._first(Allowed(purpose, host, port))
                self._contacts[key] = Contact(purpose, host, port)
        contact = self._contacts[key]
        contact.connections += 1
        return contact

    async def refuse(self, purpose: Purpose, host: str, port: int, reason: str) -> None:
        """Count it, and report it if it is the first time."""
        key = (purpose, host, port)
        if key in self._refused:
            self._refused[key].times += 1
        elif len(self._refused) >= self.limits.hosts:
            self._unlisted += 1
        else:
            refused = self._refused[key] = Refused(purpose, host, port, reason)
            log.info("refused %s on its way to %s:%d: %s", purpose, host, port, reason)
            await self._try_to_tell(replace(refused))

    def sent(self, contact: Contact, count: int) -> None:
        """Before `count` bytes leave. Raises `Refusal` if they may not."""
        self._check("sent", self.bytes_up + count, self.limits.up_bytes)
        self.bytes_up += count
        contact.bytes_up += count

    def got(self, contact: Contact, count: int) -> None:
        """Before `count` bytes that came are passed on. Raises `Refusal` if they may not."""
        self._check("received", self.bytes_down + count, self.limits.down_bytes)
        self.bytes_down += count
        contact.bytes_down += count

    @property
    def connections(self) -> int:
        """To allowed hosts, in all."""
        return sum(contact.connections for contact in self._contacts.values())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._contacts or self._refused:
            contacts, refused = self._contacts.values(), self._refused.values()
            await self._try_to_tell(Ended(tuple(contacts), tuple(refused), self._unlisted))

    def _check(self, what: str, total: int, limit: int) -> None:
        if total > limit:
            self._spent = f"This job has {what} all that it may: {limit / MEGABYTE:g} MB."
            raise Refusal(HTTPStatus.FORBIDDEN, self._spent)

    async def _first(self, allowed: Allowed) -> None:
        if len(self._contacts) >= self.limits.hosts:
            reason = f"This job may not reach more than {self.limits.hosts} hosts."
            raise Refusal(HTTPStatus.FORBIDDEN, reason)
        try:
            await self._told(allowed)
        except (PatchwrightError, TimeoutError) as error:
            if not self._complained:
                # Once: a program that tries again and again would fill the log.
                log.warning("a contact to %s could not be recorded: %s", allowed.host, error)
                self._complained = True
            reason = "The connection could not be recorded, so it is not made."
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, "Try again later.") from None

    async def _try_to_tell(self, report: Report) -> None:
        """What has happened already is told as well as can be."""
        try:
            await self._told(report)
        except (PatchwrightError, TimeoutError) as error:
            log.warning("%s was not reported: %s", type(report).__name__, error)

    async def _told(self, report: Report) -> None:
        async with asyncio.timeout(self.limits.connect_seconds):
            await self._tell(report)
