"""What a job may still spend, held against requests that run at the same time.

A request is let in when the most that it can cost still fits beside what the others may cost. The
last of the budget goes to one request at a time: so a job overruns it by one reply at most, like an
agent that asks one thing after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from patchwright_common.errors import Permanent
from patchwright_runner.agent.limits import check, out_of_time, out_of_turns
from patchwright_runner.agent.protocol import Budget, Usage

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """Nothing more is let in; the ledger's verdict says why."""


@dataclass
class Entry:
    """One request in progress: the most that it can cost, then what it did cost."""

    most: Usage
    usage: Usage = field(default_factory=Usage)
    answered: bool = False
    """Whether the model answered: only then it was a turn."""


class Ledger:
    """`used` and `turns` are what earlier attempts at the job took; `room` is requests at once."""

    def __init__(self, budget: Budget, *, used: Usage, turns: int, room: int) -> None:
        self._budget = budget
        self._before = used
        self._turns_before = turns
        self._room = room
        self._open: list[Entry] = []
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._deadline = float("inf")
        self.usage = Usage()
        """Of this attempt."""
        self.turns = 0
        """Replies in this attempt."""
        self.verdict: Exception | None = None
        """Why no further request is let in."""

    def begin(self) -> None:
        """The budget's seconds run from now on."""
        self._deadline = asyncio.get_running_loop().time() + self._budget.seconds

    @asynccontextmanager
    async def entry(self, most: Usage) -> AsyncIterator[Entry]:
        """Wait for room, and settle at the end whatever happens. Raises StoppedError."""
        await self._admitted(most)
        entry = Entry(most)
        self._open.append(entry)
        try:
            async with self._in_time():
                yield entry
        finally:
            self._settle(entry)

    def check(self) -> None:
        """Raises StoppedError, and comes to a verdict when something is used up."""
        if self.verdict is None:
            try:
                self._check()
            except Permanent as spent:
                self.stop(spent)
        if self.verdict is not None:
            raise StoppedError

    def stop(self, verdict: Exception) -> None:
        """Let nothing in any more. The first reason stays."""
        if self.verdict is None:
            self.verdict = verdict
            log.info("no further requests to the model: %s", verdict)
        self._stopped.set()
        self._wake()

    async def stopped(self) -> Exception:
        """Wait for the verdict."""
        await self._stopped.wait()
        assert self.verdict is not None  # noqa: S101 - set before the event
        return self.verdict

    def _check(self) -> None:
        check(self._budget, self._before + self.usage)
        if self._turns_before + self.turns >= self._budget.turns:
            raise out_of_turns(self._budget)
        if asyncio.get_running_loop().time() >= self._deadline:
            raise out_of_time(self._budget)

    async def _admitted(self, most: Usage) -> None:
        self.check()
        while not self._fits(most):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._deadline):
                    await self._changed.wait()
            self.check()

    def _fits(self, most: Usage) -> bool:
        if not self._open:
            return True
        turns = self._turns_before + self.turns + len(self._open)
        if len(self._open) >= self._room or turns >= self._budget.turns:
            return False
        total = self._before + self.usage + most
        for entry in self._open:
            total += entry.most
        return total.tokens <= self._budget.tokens and total.dollars <= self._budget.dollars

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """The end of the time ends what is under way."""
        try:
            async with asyncio.timeout_at(self._deadline) as clock:
                yield
        except TimeoutError:
            if not clock.expired():
                raise
            self.check()
            raise

    def _settle(self, entry: Entry) -> None:
        self._open.remove(entry)
        self.usage += entry.usage
        self.turns += entry.answered
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
