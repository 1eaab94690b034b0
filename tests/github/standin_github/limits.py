"""The hourly quota of each caller, and the headers that tell it."""

from __future__ import annotations

import time
from dataclasses import dataclass

WINDOW = 3600.0


@dataclass(slots=True)
class Quota:
    """`reset` is in seconds since the epoch."""

    limit: int
    used: int
    reset: float

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(int(self.reset)),
            "x-ratelimit-used": str(self.used),
            "x-ratelimit-resource": "core",
        }

    def numbers(self) -> dict[str, int]:
        return {
            "limit": self.limit,
            "remaining": self.remaining,
            "reset": int(self.reset),
            "used": self.used,
        }


class RateLimits:
    """One window per caller, opened by its first request."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._quotas: dict[str, Quota] = {}

    def quota(self, caller: str) -> Quota:
        now = time.time()
        quota = self._quotas.get(caller)
        if quota is None or quota.reset <= now:
            quota = self._quotas[caller] = Quota(self.limit, 0, now + WINDOW)
        quota.limit = self.limit
        return quota

    def take(self, caller: str) -> tuple[Quota, bool]:
        """The quota, and whether this request still fits in it."""
        quota = self.quota(caller)
        if quota.remaining == 0:
            return quota, False
        quota.used += 1
        return quota, True

    def reset(self, limit: int | None = None) -> None:
        self.limit = self.limit if limit is None else limit
        self._quotas.clear()
