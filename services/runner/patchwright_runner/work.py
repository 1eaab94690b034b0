"""The handler of `JobReadied`: claims a job and works on it under its epoch."""

from __future__ import annotations

import logging

from patchwright_common import steps, telemetry
from patchwright_common.events import JobReadied
from patchwright_common.messaging import Delivery
from patchwright_runner.attempt import Attempt
from patchwright_runner.history import is_produced
from patchwright_runner.ownership import Ownership, StoppedByPerson, raise_if_stopped
from patchwright_runner.workshop import Workshop

log = logging.getLogger(__name__)


class Runner:
    """The handler of `JobReadied`."""

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop

    async def on_readied(self, delivery: Delivery) -> None:
        """Claim the job and work on it, unless its result is there."""
        job_id = delivery.read(JobReadied).job_id
        if await self._is_done(job_id):
            log.info("the result is there already")
            return
        try:
            await raise_if_stopped(self._shop.claims, job_id)
            await self._work(job_id)
        except StoppedByPerson as stopped:
            log.info("the job was stopped: %s", stopped)

    async def _work(self, job_id: str) -> None:
        job = await self._shop.bus.job(job_id)
        ownership = await Ownership.take(self._shop.claims, job_id, self._shop.name)
        steps.reached("runner.job-claimed")
        telemetry.note(telemetry.EPOCH, ownership.epoch)
        telemetry.note(telemetry.REPOSITORY, job.repository.full_name)
        attempt = Attempt(self._shop, job, ownership)

        async def work() -> None:
            # Waiting for the mirror counts as work: a claim without a heartbeat is swept.
            async with self._shop.mirror.held(job.repository.id):
                await attempt.run()

        await ownership.during(work)
        # Acknowledging now would clear the message of whoever has taken over meanwhile.
        await ownership.check()

    async def _is_done(self, job_id: str) -> bool:
        """Decided, or handed on by a runner that died before it could acknowledge."""
        if await self._shop.claims.outcome(job_id) is not None:
            return True
        claim = await self._shop.claims.claim(job_id)
        return claim is not None and await is_produced(self._shop.bus, job_id, claim.epoch)
