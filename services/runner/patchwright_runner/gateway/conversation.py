"""A request for a reply: read, let in, sent on, accounted for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from starlette.requests import Request
from starlette.types import Send

from patchwright_common.telemetry import span
from patchwright_runner.agent.hidden_text import one_line
from patchwright_runner.agent.prices import priced
from patchwright_runner.agent.protocol import Usage
from patchwright_runner.gateway.headers import outgoing
from patchwright_runner.gateway.intake import Intake
from patchwright_runner.gateway.ledger import Entry, Ledger, StoppedError
from patchwright_runner.gateway.models import must_be_allowed
from patchwright_runner.gateway.outlet import Outlet
from patchwright_runner.gateway.reader import read_aside
from patchwright_runner.gateway.relay import Relay
from patchwright_runner.gateway.remarks import Remarks
from patchwright_runner.gateway.request import Asked
from patchwright_runner.gateway.settings import Exchange, GatewaySettings
from patchwright_runner.gateway.upstream import Query, Upstream

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
BETA = "beta=true"
"""Anthropic's clients put it behind the path when they use beta fields."""
BYTES_OF_A_TOKEN = 2
"""At least, of a prompt, for the reservation."""
COUNTING = 2
"""Requests to count tokens at once; they cost nothing."""
REMARKED = 10
"""Beta tokens of one request that are left out and logged: a header has room for thousands."""

Done = Callable[[Exchange, Relay], None]


@dataclass(frozen=True, slots=True)
class Passed:
    """A request that may be sent on."""

    query: Query
    asked: Asked

    @property
    def most(self) -> Usage:
        """The most that it can cost, so that the budget holds against many at once."""
        prompt = len(self.query.body) // BYTES_OF_A_TOKEN
        written = self.asked.max_tokens
        return priced(self.asked.model, Usage(cache_write_tokens=prompt, output_tokens=written))


class Conversation:
    """The two endpoints that reach the model's server. `done` hears of each reply."""

    def __init__(
        self,
        settings: GatewaySettings,
        ledger: Ledger,
        upstream: Upstream,
        remarks: Remarks,
        *,
        done: Done,
        parent: Context,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._upstream = upstream
        self._remarks = remarks
        self._done = done
        self._parent = parent
        self._intake = Intake(settings.body_bytes, settings.body_seconds)
        self._reading = asyncio.Lock()
        self._counting = asyncio.Semaphore(COUNTING)
        self._number = 0

    async def create(self, request: Request, send: Send) -> None:
        """`POST /v1/messages`. Raises RefusedError or StoppedError before the first byte."""
        async with self._passed(request, MESSAGES) as passed:
            outlet = self._outlet(request, send)
            try:
                async with self._ledger.entry(passed.most) as entry:
                    # It may have waited for room for longer than its client did.
                    if not await request.is_disconnected():
                        await self._turn(passed, entry, outlet)
            except StoppedError:
                if not outlet.begun:
                    raise
                outlet.tear()

    async def count(self, request: Request, send: Send) -> None:
        """`POST /v1/messages/count_tokens`, which is free of charge."""
        async with self._passed(request, COUNT_TOKENS) as passed, self._counting:
            self._ledger.check()
            await self._relay(passed).run(self._outlet(request, send))

    async def _turn(self, passed: Passed, entry: Entry, outlet: Outlet) -> None:
        relay = self._relay(passed)
        started = time.monotonic()
        try:
            with self._span(passed.asked, relay):
                await relay.run(outlet)
        finally:
            entry.usage, entry.answered = relay.meter.usage, relay.answered
            self._number += 1
            exchange = Exchange(
                number=self._number,
                model=passed.asked.model,
                usage=entry.usage,
                seconds=time.monotonic() - started,
                status=relay.status,
                complete=relay.meter.complete,
            )
            self._done(exchange, relay)

    @asynccontextmanager
    async def _passed(self, request: Request, path: str) -> AsyncIterator[Passed]:
        """Its body counts as held until the block ends: waiting, it is in memory all the same.

        Raises RefusedError for whatever may not be sent on, StoppedError before it is looked at.
        """
        settings = self._settings
        out = outgoing(request.headers, settings.key.get_secret_value())
        for token in out.dropped[:REMARKED]:
            self._remarks.add(f"a beta token was left out: {one_line(token, 60)}")
        behind = f"?{BETA}" if BETA in request.url.query.split("&") else ""
        async with self._intake.body(request) as body:
            async with self._reading:
                self._ledger.check()
                read = await read_aside(body.take())
            must_be_allowed(read.asked.model, settings)
            query = Query(path + behind, out.headers, read.written, read.asked.stream)
            yield Passed(query, read.asked)

    def _outlet(self, request: Request, send: Send) -> Outlet:
        return Outlet(request.scope, send, self._settings.patience.silence)

    def _relay(self, passed: Passed) -> Relay:
        return Relay(passed.query, passed.asked.model, self._upstream, self._settings.key)

    @contextmanager
    def _span(self, asked: Asked, relay: Relay) -> Iterator[None]:
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": asked.model,
            "gen_ai.request.max_tokens": asked.max_tokens,
        }
        with span(
            "model turn", kind=SpanKind.CLIENT, parent=self._parent, attributes=attributes
        ) as current:
            try:
                yield
            finally:
                _describe(current, relay)


def _describe(current: Span, relay: Relay) -> None:
    usage = relay.meter.usage
    current.set_attributes(
        {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "patchwright.cost.dollars": usage.dollars,
            "http.response.status_code": relay.status,
        }
    )
    if relay.meter.stop_reason:
        current.set_attribute("gen_ai.response.finish_reasons", [relay.meter.stop_reason])
    if not relay.meter.complete:
        current.set_status(Status(StatusCode.ERROR))
