"""How full the streams are: an alarm long before they refuse, and new work refused before results.

A full stream refuses (`discard: new`) and drops nothing. Who publishes gets `Retry`, so
ingest answers 503 and consumers keep their messages. Jobs that have begun need room for
their results: triage takes new ones in only while `JOB_STORES` have some to spare.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchwright_common.beside import repeated
from patchwright_common.bus import AWAY
from patchwright_common.errors import Retry

if TYPE_CHECKING:
    from nats.js import JetStreamContext

log = logging.getLogger(__name__)

ALARM = 0.8
"""The share of its limit from which a stream is worth an operator's attention."""
SPARE = 0.95
"""The share up to which new jobs are taken in; the rest is for those that have begun."""
PAUSE = 30.0
"""Seconds between two looks."""
REMIND = 3600.0
"""Seconds after which an alarm that nothing changed is logged again."""
FRESH = 5.0
"""Seconds for which a look whether there is room for a job holds."""
HOLD = 10.0
"""Seconds after which what found no room is tried again."""


@dataclass(frozen=True)
class Fill:
    """How much of a stream is used, in bytes; `limit` 0 for one that has none."""

    name: str
    used: int
    limit: int

    @property
    def share(self) -> float:
        """From 0 to 1, and 0 where nothing limits it."""
        return self.used / self.limit if self.limit else 0.0

    @property
    def alarming(self) -> bool:
        """Whether somebody has to do something."""
        return self.share >= ALARM

    def __str__(self) -> str:
        return f"{self.name} is {self.share:.0%} full ({self.used / 1e6:,.1f} MB)"


async def fill(js: JetStreamContext, name: str) -> Fill:
    """How full that stream is. Raises `Retry` when NATS does not say."""
    try:
        info = await js.stream_info(name)
    except AWAY as error:
        raise Retry(f"{name} did not say how full it is: {error!r}") from error
    return Fill(name, info.state.bytes, max(info.config.max_bytes or 0, 0))


class Gauge:
    """A service's look at its streams: logs what is nearly full, and says so when asked."""

    def __init__(self, js: JetStreamContext, names: Sequence[str]) -> None:
        self._js = js
        self._names = tuple(names)
        self._alarms: dict[str, Fill] = {}
        self._said: dict[str, tuple[int, float]] = {}
        """By stream: the percents that were logged, and when (monotonic)."""

    @property
    def alarms(self) -> list[str]:
        """A sentence for each stream that is nearly full, as of the last look."""
        return [str(found) for found in self._alarms.values()]

    def beside(self, *, pause: float = PAUSE) -> AbstractAsyncContextManager[None]:
        """Look now and then, for as long as the context lasts."""
        return repeated(self.look, pause=pause, what="known how full the streams are", at_once=True)

    async def look(self) -> None:
        """Ask once. What NATS does not say stays as it was."""
        for name in self._names:
            try:
                self._note(await fill(self._js, name))
            except Retry as error:
                log.debug("%s", error.reason)

    def _note(self, found: Fill) -> None:
        if not found.alarming:
            self._said.pop(found.name, None)
            if self._alarms.pop(found.name, None):
                log.info("%s: there is room again", found)
            return
        self._alarms[found.name] = found
        percent, now = int(found.share * 100), time.monotonic()
        before, at = self._said.get(found.name, (0, -REMIND))
        if percent > before or now - at >= REMIND:
            self._said[found.name] = (percent, now)
            log.error("%s; once full it refuses, README says what to do", found)


class RoomForJobs:
    """Whether a job that begins now would find room for all that it has to store."""

    def __init__(self, js: JetStreamContext, names: Sequence[str]) -> None:
        self._js = js
        self._names = tuple(names)
        self._looked = -FRESH
        self._lock = asyncio.Lock()
        self._full: Fill | None = None

    async def check(self) -> None:
        """Raises `Retry` where there is too little, or where NATS does not say."""
        async with self._lock:
            if time.monotonic() - self._looked >= FRESH:
                fills = [await fill(self._js, name) for name in self._names]
                self._full = next((found for found in fills if found.share >= SPARE), None)
                self._looked = time.monotonic()
        if self._full is not None:
            raise Retry(f"no new job begins: {self._full}", after=HOLD)
