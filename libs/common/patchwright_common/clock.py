"""How long somebody stood still."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds on a clock that goes on while the machine sleeps, which `time.monotonic` does not."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux has it
    return time.monotonic() if boot is None else time.clock_gettime(boot)
