"""Drives a job again that nobody drives any more.

Acknowledgements are not the truth: a runner that was paused can wake up and clear the
message of the one that took over; when that one dies as well, no redelivery comes.
"""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from patchwright_common import steps
from patchwright_common.beside import repeated
from patchwright_common.bus import AWAY, Bus
from patchwright_common.claims import Claim, Claims, Unreadable
from patchwright_common.errors import Retry
from patchwright_common.events import JobReadied
from patchwright_common.flow import JOB_READIED, RUNNER_JOB_READIED
from patchwright_runner.history import is_produced, newest

log = logging.getLogger(__name__)

PROMISE = 60.0
"""Seconds within which a lost job is driven again, where a runner is free."""
PAUSE = 15.0
"""Seconds between two sweeps."""
SILENCE = 35.0
"""Seconds without a heartbeat after which nobody works on a job: several heartbeats, and longer
than the broker waits before it hands out again what a dead runner had."""


class Sweeper:
    """Any number of runners may have one: the event's id makes the second time a no-op."""

    def __init__(self, bus: Bus, claims: Claims, *, silence: float = SILENCE) -> None:
        self._bus = bus
        self._claims = claims
        self._silence = silence
        self._settled: set[str] = set()
        """Jobs with an outcome, which stays."""

    def beside(self, *, pause: float = PAUSE) -> AbstractAsyncContextManager[None]:
        """Sweep now and then, for as long as the context lasts."""
        return repeated(self.sweep, pause=pause, what="swept (lost jobs)")

    async def sweep(self) -> list[str]:
        """Make the lost jobs ready again; their ids."""
        lost = []
        for job_id in await self._claims.keys("claim"):
            if job_id in self._settled:
                continue
            try:
                claim = await self._claims.claim(job_id)
                if claim is None or not await self._is_lost(job_id, claim):
                    continue
            except Unreadable as error:
                log.error("%s is not swept: %s", job_id, error.reason)
                continue
            log.warning("nobody drives %s any more: it is made ready again", job_id)
            again = JobReadied(job_id=job_id)
            await self._bus.emit(JOB_READIED, again, step=f"again:{claim.epoch}")
            steps.reached("runner.job-readied-again")
            lost.append(job_id)
        return lost

    async def _is_lost(self, job_id: str, claim: Claim) -> bool:
        """Open, no heartbeat, nothing for the publisher to do, and no message that waits."""
        if await self._claims.outcome(job_id) is not None:
            self._settled.add(job_id)
            return False
        if await self._claims.cancelled(job_id) is not None:
            return False
        silent = (datetime.now(UTC) - claim.beaten_at).total_seconds()
        if silent < self._silence or await is_produced(self._bus, job_id, claim.epoch):
            return False
        return await self._is_acknowledged(job_id, claim)

    async def _is_acknowledged(self, job_id: str, claim: Claim) -> bool:
        """Not while it waits for its next attempt, which may be hours away.

        The broker tells only up to where everything is acknowledged, and a long job holds that
        back for all behind it. But a runner that waits for work would have been given what a
        silent one left, so what it was not given nobody will be, unless it has to wait.
        """
        try:
            info = await self._bus.js.consumer_info(
                JOB_READIED.stream.name, RUNNER_JOB_READIED.name
            )
        except AWAY as error:
            raise Retry(f"the runners' consumer did not answer: {error!r}") from error
        readied = await newest(self._bus, JOB_READIED, job_id)
        floor = (info.ack_floor.stream_seq if info.ack_floor else 0) or 0
        if readied is None:
            return False
        sequence = readied.seq or 0
        handed_out = (info.delivered.stream_seq if info.delivered else 0) or 0
        free = bool(info.num_waiting) and not claim.resting
        return sequence <= floor or (free and sequence <= handed_out)
