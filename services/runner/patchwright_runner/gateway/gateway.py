"""A job's way to the model: the only one that leads out of its sandbox while the agent works."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from opentelemetry import context

from patchwright_common.errors import Permanent, Retry
from patchwright_git.scratch import scratch
from patchwright_runner.agent.protocol import Usage
from patchwright_runner.gateway.app import Endpoints
from patchwright_runner.gateway.conversation import Conversation
from patchwright_runner.gateway.door import listening
from patchwright_runner.gateway.ledger import Ledger
from patchwright_runner.gateway.relay import Relay
from patchwright_runner.gateway.remarks import Remarks
from patchwright_runner.gateway.settings import Exchange, GatewaySettings
from patchwright_runner.gateway.upstream import Upstream

log = logging.getLogger(__name__)

TELL_SECONDS = 10.0
"""At the end, to tell of the last exchanges."""

Finished = Callable[[Exchange], Awaitable[None]]


class Gateway:
    """For one attempt at a job. `finished` hears of one exchange after the other.

    What `finished` raises ends the job: nothing more is let in, and `stopped` returns it.
    """

    def __init__(self, settings: GatewaySettings, finished: Finished | None = None) -> None:
        self._settings = settings
        self._finished = finished
        self._ledger = Ledger(
            settings.budget, used=settings.used, turns=settings.turns, room=settings.requests
        )
        self._fault: Permanent | Retry | None = None
        self._exchanges: asyncio.Queue[Exchange | None] = asyncio.Queue()

    @property
    def usage(self) -> Usage:
        """Of this attempt, all models together."""
        return self._ledger.usage

    @property
    def turns(self) -> int:
        """Replies of the model in this attempt."""
        return self._ledger.turns

    @property
    def verdict(self) -> Exception | None:
        """Why nothing more is let in: a used-up budget, or what `finished` raised."""
        return self._ledger.verdict

    @property
    def fault(self) -> Permanent | Retry | None:
        """What the job's model answered last instead of a reply, for a program that gave up."""
        return self._fault

    async def stopped(self) -> Exception:
        """Wait for the verdict. A program that does not end by itself then is to be ended."""
        return await self._ledger.stopped()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Path]:
        """The socket, for as long as the block lasts. The budget's seconds begin with it."""
        upstream = Upstream(self._settings.base_url, self._settings.patience)
        remarks = Remarks()
        conversation = Conversation(
            self._settings,
            self._ledger,
            upstream,
            remarks,
            done=self._done,
            parent=context.get_current(),
        )
        app = Endpoints(self._settings, conversation, self._ledger, remarks)
        self._ledger.begin()
        with scratch("model") as folder:
            async with self._telling(), upstream.connected(), listening(app, folder / "model"):
                yield folder / "model"

    def _done(self, exchange: Exchange, relay: Relay) -> None:
        if exchange.model == self._settings.model:
            self._fault = relay.fault
        self._exchanges.put_nowait(exchange)

    @asynccontextmanager
    async def _telling(self) -> AsyncIterator[None]:
        """Not in the requests themselves: those end with their clients, this must be heard."""
        teller = asyncio.create_task(self._tell())
        try:
            yield
        finally:
            self._exchanges.put_nowait(None)
            try:
                async with asyncio.timeout(TELL_SECONDS):
                    await teller
            except TimeoutError:
                log.warning("not all exchanges with the model could be told of in time")

    async def _tell(self) -> None:
        while (exchange := await self._exchanges.get()) is not None:
            if self._finished is None:
                continue
            try:
                await self._finished(exchange)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the job's end
                self._ledger.stop(error)
