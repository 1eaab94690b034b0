"""Work only while the job is ours: a claim, its heartbeat, and an end when it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from patchwright_common import steps
from patchwright_common.claims import Claims
from patchwright_common.errors import Overtaken, Permanent, Retry

log = logging.getLogger(__name__)

HEARTBEAT = 5.0
"""Seconds between two looks at the claim."""
CRASH_LIMIT = 3
"""How many runners a job may take down, without a turn between them, before it is given up."""


class Ownership:
    """One job, owned by this runner under one epoch."""

    def __init__(self, claims: Claims, job_id: str, epoch: int, heartbeat: float) -> None:
        self._claims = claims
        self._heartbeat = heartbeat
        self.job_id = job_id
        self.epoch = epoch

    @classmethod
    async def take(
        cls, claims: Claims, job_id: str, owner: str, *, heartbeat: float = HEARTBEAT
    ) -> Ownership:
        """Claim the job. Raises `Permanent` when it has ended too many runners."""
        claim = await claims.take(job_id, owner)
        if claim.fruitless >= CRASH_LIMIT:
            raise Permanent(
                f"The work was cut off {claim.crashes} times: each time the runner died with it.",
                advice="Operators: the runner's log and the trace show where.",
            )
        return cls(claims, job_id, claim.epoch, heartbeat)

    async def check(self) -> None:
        """Raises `Overtaken` when a newer epoch exists. To be called before every effect."""
        await self._claims.beat(self.job_id, self.epoch)

    async def during(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work with a heartbeat beside it; it is cancelled when the job is lost.

        An attempt that ends by itself is recorded, so that it does not count as a crash.
        """
        working = asyncio.ensure_future(work())
        beating = asyncio.create_task(self._beat())
        try:
            await asyncio.wait((working, beating), return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                working.cancel()
                await asyncio.wait((working,))
                beating.result()
            await working
        except Overtaken:
            raise
        except (Exception, asyncio.CancelledError):
            await asyncio.shield(self._record_end())
            raise
        finally:
            for task in (working, beating):
                task.cancel()
            await asyncio.wait((working, beating))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            try:
                await self.check()
            except Retry as error:
                # Not knowing is no reason to stop: nothing is published without a check.
                log.warning("the claim could not be refreshed: %s", error.reason)

    async def _record_end(self) -> None:
        """Raises `Overtaken` when the failure is no longer ours to report."""
        try:
            await self._claims.beat(self.job_id, self.epoch, retrying=True)
            steps.reached("runner.attempt-ended")
        except Retry as error:
            log.warning("the end of the attempt was not recorded: %s", error.reason)
