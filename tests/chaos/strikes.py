"""Carries out a plan's strikes: SIGKILL, and SIGSTOP with SIGCONT after a while."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import Sequence

import psutil

from .crew import Crew
from .plan import Strike


class Striker:
    """`done` counts what was done, by target and way; a target that is down anyway is skipped."""

    def __init__(self, crew: Crew, strikes: Sequence[Strike]) -> None:
        self._crew = crew
        self._strikes = strikes
        self.done: Counter[tuple[str, str]] = Counter()
        self.skipped = 0
        self.last = ""

    async def run(self, began: float) -> None:
        """Until the last one is over; `began` on the monotonic clock."""
        async with asyncio.TaskGroup() as tasks:
            for strike in self._strikes:
                await asyncio.sleep(max(0.0, began + strike.at - time.monotonic()))
                process = self._crew.alive(strike.target)
                if process is None:
                    self.skipped += 1
                    continue
                self._note(strike)
                if strike.how == "kill":
                    _signal(process, signal.SIGKILL)
                else:
                    tasks.create_task(_paused(process, strike.seconds))

    def _note(self, strike: Strike) -> None:
        self.done[strike.target, strike.how] += 1
        length = f" for {strike.seconds:.1f} s" if strike.seconds else ""
        self.last = f"{strike.at:6.1f} s  {strike.how} {strike.target}{length}"


async def _paused(process: psutil.Process, seconds: float) -> None:
    _signal(process, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    _signal(process, signal.SIGCONT)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    """psutil looks whether the id still belongs to the same process."""
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)
