"""The requests that the stand-in received, for tests to look at. Keys are never kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SECRET_HEADERS = frozenset({"x-api-key", "authorization", "cookie"})
KEPT = 2000


@dataclass
class Received:
    """One request and what became of it."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any = None
    scenario: str = ""
    step: int | None = None
    """Counted from 0; None when no step was chosen."""
    outcome: str = ""
    """`ok`, the status of an error, or how the stream was broken."""


@dataclass
class Recording:
    """The last requests, oldest first."""

    _received: deque[Received] = field(default_factory=lambda: deque(maxlen=KEPT))
    _count: int = 0

    def add(self, method: str, path: str, headers: Mapping[str, str]) -> Received:
        self._count += 1
        shown = {k: v for k, v in headers.items() if k.lower() not in SECRET_HEADERS}
        received = Received(self._count, method, path, shown)
        self._received.append(received)
        return received

    def clear(self) -> None:
        self._received.clear()

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(received) for received in self._received]
