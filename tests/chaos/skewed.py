"""A service whose clock is wrong: `python -m tests.chaos.skewed SECONDS SERVICE`.

Python's own clocks are replaced before the service is imported. Monotonic ones stay, as they do
on a machine whose time is wrong.
"""

from __future__ import annotations

import datetime as dt
import importlib
import sys
import time

MAINS = {
    "ingest": ("patchwright_ingest.main", "ingest"),
    "triage": ("patchwright_ingest.main", "triage"),
    "vault": ("patchwright_vault.main", "main"),
    "runner": ("patchwright_runner.main", "main"),
    "publisher": ("patchwright_publisher.main", "main"),
}


def command(service: str, seconds: float) -> tuple[str, ...]:
    """How to start it that many seconds ahead."""
    return sys.executable, "-m", "tests.chaos.skewed", str(seconds), service


def _skew(seconds: float) -> None:
    right, real = time.time, dt.datetime

    def wrong() -> float:
        return right() + seconds

    class Any(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, real)

    class Skewed(real, metaclass=Any):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return real.fromtimestamp(wrong(), tz)

    time.time = wrong
    dt.datetime = Skewed  # type: ignore[misc]


if __name__ == "__main__":
    _skew(float(sys.argv[1]))
    name, function = MAINS[sys.argv[2]]
    getattr(importlib.import_module(name), function)()
