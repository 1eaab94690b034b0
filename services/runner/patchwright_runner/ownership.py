"""Work only while the job is ours: a claim, its heartbeat, and an end when it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from patchwright_common import steps
from patchwright_common.beside import cancel_until_done
from patchwright_common.claims import Claims
from patchwright_common.errors import Overtaken, PatchwrightError, Permanent, Retry
from patchwright_runner.agent.protocol import CutOff

log = logging.getLogger(__name__)

HEARTBEAT = 5.0
"""Seconds between two looks at the claim."""
LOOK = 1.0
"""Seconds between two looks whether somebody stopped the job. No service may make a consumer, as
watching a key would take, and one read a second costs nothing beside a model."""
PUT_AWAY = 20.0
"""Seconds in which an attempt that was told to end puts its box away."""
CRASH_LIMIT = 3
"""How many runners a job may take down, without a turn between them, before it is given up."""


class StoppedByPerson(PatchwrightError):
    """Somebody ended the job: acknowledge it, publish nothing final, spend nothing more."""


async def raise_if_stopped(claims: Claims, job_id: str) -> None:
    """Raises `StoppedByPerson`."""
    cancel = await claims.cancelled(job_id)
    if cancel is not None:
        raise StoppedByPerson(f"{cancel.cause} by {cancel.by}")


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
                f"The work was cut off {claim.crashes} times: each time the runner, or what ran in "
                "the sandbox, died with it.",
                advice="Operators: the runner's log and the trace show where.",
            )
        return cls(claims, job_id, claim.epoch, heartbeat)

    async def check(self) -> None:
        """Raises `Overtaken` when a newer epoch exists. To be called before every effect."""
        await self._claims.beat(self.job_id, self.epoch)

    async def check_not_stopped(self) -> None:
        """Raises `StoppedByPerson`. To be called before what is final."""
        await raise_if_stopped(self._claims, self.job_id)

    async def during(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work with a heartbeat beside it; it is cancelled when the job is lost or stopped.

        An attempt that ends by itself is recorded, so that it does not count as a crash.
        """
        working = asyncio.ensure_future(work())
        beating = asyncio.create_task(self._repeat(self._heartbeat, self.check))
        looking = asyncio.create_task(self._repeat(LOOK, self.check_not_stopped))
        try:
            await asyncio.wait((working, beating, looking), return_when=asyncio.FIRST_COMPLETED)
            for beside in (beating, looking):
                if beside.done():
                    await cancel_until_done(working, patience=PUT_AWAY)
                    beside.result()
            await working
        except Overtaken:
            raise
        except CutOff:
            await self.check()
            raise
        except (Exception, asyncio.CancelledError):
            await asyncio.shield(self._record_end())
            raise
        finally:
            await cancel_until_done(beating, looking)
            await cancel_until_done(working, patience=PUT_AWAY)

    async def _repeat(self, pause: float, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause)
            try:
                await look()
            except Retry as error:
                # Not knowing is no reason to stop: nothing is published without a check.
                log.warning("it is not known whether to go on: %s", error.reason)

    async def _record_end(self) -> None:
        """Raises `Overtaken` when the failure is no longer ours to report."""
        try:
            await self._claims.beat(self.job_id, self.epoch, retrying=True)
            steps.reached("runner.attempt-ended")
        except Retry as error:
            log.warning("the end of the attempt was not recorded: %s", error.reason)
