"""The parts of the stand-in, put together once in `main.py` and passed to every handler."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path

from standin_github.faults import Faults
from standin_github.git import Git
from standin_github.limits import RateLimits
from standin_github.manifest import Codes
from standin_github.state import State
from standin_github.urls import Urls
from standin_github.webhooks import DELIVERY_TIMEOUT, Webhooks

REQUESTS_KEPT = 20_000
SAVE_INTERVAL = 1.0
"""Seconds between snapshots; longer when writing one takes long."""


@dataclass(slots=True)
class Settings:
    """`token_lifetime` and `delivery_timeout` are in seconds, `rate_limit` in requests an hour."""

    public_url: str
    data: Path
    token_lifetime: float = 3600.0
    rate_limit: int = 5000
    delivery_timeout: float = DELIVERY_TIMEOUT


@dataclass(slots=True)
class RequestRecord:
    """One request as it was seen; `at` is when, `duration` in seconds."""

    id: str
    method: str
    path: str
    actor: str
    at: float
    status: int = 0
    duration: float = 0.0
    fault: int | None = None
    answer_lost: bool = False


class Hub:
    """Everything that a handler may need."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.urls = Urls(settings.public_url.rstrip("/"))
        settings.data.mkdir(parents=True, exist_ok=True)
        self._snapshot = settings.data / "state.json"
        self.state = State.load(self._snapshot)
        self.git = Git(settings.data)
        self.webhooks = Webhooks(self.state, self.urls, settings.delivery_timeout)
        self.faults = Faults()
        self.limits = RateLimits(settings.rate_limit)
        self.requests: deque[RequestRecord] = deque(maxlen=REQUESTS_KEPT)
        self.ref_locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By repository: who moves refs and tells of it holds this."""
        self.manifest_codes = Codes()
        self.dirty = False

    def save(self) -> float:
        """Write the snapshot if anything changed; answers how many seconds that took."""
        if not self.dirty:
            return 0.0
        self.dirty = False
        started = time.monotonic()
        self.state.save(self._snapshot)
        return time.monotonic() - started

    async def keep_saving(self) -> None:
        """Until cancelled. Delivery results arrive by themselves, so they count as changes."""
        while True:
            self.dirty = self.dirty or self.webhooks.pending > 0
            took = self.save()
            await asyncio.sleep(max(SAVE_INTERVAL, 20 * took))
