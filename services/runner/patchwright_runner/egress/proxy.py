"""The proxy: a socket of the runner's, and a bounded number of connections to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

from patchwright_git.scratch import scratch
from patchwright_runner.egress.allowlist import Allowlist, Pattern
from patchwright_runner.egress.connection import Connection, Rules
from patchwright_runner.egress.dialing import BUFFER, Dialer, Resolver, SystemResolver
from patchwright_runner.egress.ledger import Ledger
from patchwright_runner.egress.refusal import Refusal, answer
from patchwright_runner.egress.reports import Purpose

log = logging.getLogger(__name__)

_END_SECONDS = 5.0


class Egress:
    """One job's way out for one purpose. The ledger is the job's, the allowlist the purpose's.

    `private` are the operator's hosts that may lie in a private network; they have to be on
    the allowlist too.
    """

    def __init__(
        self,
        allowlist: Allowlist,
        ledger: Ledger,
        *,
        purpose: Purpose,
        private: Sequence[Pattern] = (),
        resolver: Resolver | None = None,
    ) -> None:
        self._limits = ledger.limits
        dialer = Dialer(resolver or SystemResolver(), private, ledger.limits.connect_seconds)
        self._rules = Rules(allowlist, ledger, purpose, dialer)
        self._tasks = set[asyncio.Task[None]]()
        self._open = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Path]:
        """The path of the UNIX socket that is the proxy. On leaving, every connection ends."""
        with scratch("egress") as folder:
            path = folder / "proxy"
            server = await asyncio.start_unix_server(self._accept, path, limit=BUFFER)
            self._open = True
            try:
                yield path
            finally:
                self._open = False
                server.close()
                await self._end()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            # It was on its way when the server was closed.
            writer.transport.abort()
            return
        if len(self._tasks) >= self._limits.connections:
            reason = f"There are {self._limits.connections} connections already."
            writer.write(answer(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason)))
            writer.close()
            return
        connection = Connection(self._rules, (reader, writer))
        task = asyncio.create_task(connection.serve(), name="egress connection")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection of the egress proxy failed", exc_info=error)

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SECONDS)
