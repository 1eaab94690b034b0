"""Token buckets: how much is let in, by sender. Pure: whoever asks brings the time.

A bucket holds up to `burst` tokens and gains `rate` a second; each request takes one.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

KEYS = 10_000
"""Senders that are remembered; the one that was quiet for longest is forgotten first."""
IPV6_NETWORK = 64
"""Bits: one customer has at least that network to himself, and any number of addresses in it."""


@dataclass(frozen=True)
class Rate:
    """`per_second` 0: without limit."""

    per_second: float
    burst: float


@dataclass
class _Level:
    tokens: float
    at: float


class Buckets:
    """One bucket for each key; memory is bounded by `keys`."""

    def __init__(self, rate: Rate, *, keys: int = KEYS) -> None:
        self._rate = rate
        self._keys = keys
        self._levels: OrderedDict[str, _Level] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take a token: 0, or the seconds after which there is one again (`now` in seconds)."""
        if self._rate.per_second <= 0:
            return 0.0
        level = self._level(key, now)
        if level.tokens < 1:
            return (1 - level.tokens) / self._rate.per_second
        level.tokens -= 1
        return 0.0

    def give_back(self, key: str, now: float) -> None:
        """Undo `take`."""
        if self._rate.per_second > 0:
            level = self._level(key, now)
            level.tokens = min(self._rate.burst, level.tokens + 1)

    def _level(self, key: str, now: float) -> _Level:
        level = self._levels.get(key)
        if level is None:
            # Forgetting a sender fills its bucket: whoever has more addresses than we have
            # memory is bounded by the bodies' room and not by this.
            while len(self._levels) >= self._keys:
                self._levels.popitem(last=False)
            level = self._levels[key] = _Level(self._rate.burst, now)
        gained = max(0.0, now - level.at) * self._rate.per_second
        level.tokens, level.at = min(self._rate.burst, level.tokens + gained), now
        self._levels.move_to_end(key)
        return level


def source(host: str | None) -> str:
    """Who a request comes from, as far as addresses tell."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return host or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), IPV6_NETWORK), strict=False))
    return str(address)
