"""Who is let in, and with how much at once: nothing here looks at the bus.

GitHub does not redeliver by itself what was refused, but its delivery log has it, and from
there it is taken in later.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from patchwright_ingest.rates import Buckets, Rate, source
from patchwright_ingest.webhook import RefusedError, Webhook

SMALL = 64 * 1024
"""Bytes of each body that count for nothing: large bodies must not keep small ones out."""
SOON = 5
"""Seconds after which a place in memory may well be free: a body has ten to arrive."""
UNSIGNED = Rate(10, 100)
INSTALLATION = Rate(50, 2000)


@dataclass(frozen=True)
class Limits:
    """`unsigned`: requests of one address whose signature was not right (yet).

    `installation`: signed deliveries of one installation. `body_bytes`: bodies in memory
    at once, beyond the first `SMALL` of each; `requests`: deliveries in work at once.
    """

    unsigned: Rate = UNSIGNED
    installation: Rate = INSTALLATION
    body_bytes: int = 128 * 2**20
    requests: int = 500


class Room:
    """Bytes of one body that are in memory."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0

    def grow(self, size: int) -> None:
        """Raises `RefusedError` (503) where bodies of other requests fill the memory."""
        wanted = max(0, size - SMALL)
        self._admission.reserve(wanted - self._held)
        self._held = wanted

    def free(self) -> None:
        """The body is gone."""
        self._admission.reserve(-self._held)
        self._held = 0


class Admission:
    """One endpoint's counters. Every refusal is a `RefusedError` with `retry_after`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._unsigned = Buckets(limits.unsigned)
        self._installations = Buckets(limits.installation)
        self._bytes = 0
        self._requests = 0

    @contextmanager
    def request(self, host: str | None) -> Iterator[Entry]:
        """A request from that address, from its headers to its answer. Raises 429 and 503."""
        if self._requests >= self._limits.requests:
            raise RefusedError(503, "too many deliveries at once", retry_after=SOON)
        who = source(host)
        wait = self._unsigned.take(who, time.monotonic())
        if wait:
            reason = "too many requests from this address without a valid signature"
            raise RefusedError(429, reason, retry_after=_whole(wait))
        self._requests += 1
        entry = Entry(self, who)
        try:
            yield entry
        finally:
            self._requests -= 1
            entry.room.free()

    def reserve(self, size: int) -> None:
        """Raises `RefusedError` (503); a negative `size` gives back."""
        if size > 0 and self._bytes + size > self._limits.body_bytes:
            reason = "too many large deliveries at once; redeliver later"
            raise RefusedError(503, reason, retry_after=SOON)
        self._bytes += size

    def signed(self, who: str) -> None:
        """What its address was charged is given back: GitHub's own must never add up."""
        self._unsigned.give_back(who, time.monotonic())

    def let_in(self, webhook: Webhook) -> None:
        """A signed delivery. Raises 429 where its installation sends too much."""
        wait = self._installations.take(webhook.installation_id, time.monotonic())
        if wait:
            reason = "too many deliveries of this installation"
            raise RefusedError(429, reason, retry_after=_whole(wait))


class Entry:
    """One request inside."""

    def __init__(self, admission: Admission, who: str) -> None:
        self._admission = admission
        self._who = who
        self.room = Room(admission)

    def signed(self) -> None:
        """Its signature is right."""
        self._admission.signed(self._who)


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
