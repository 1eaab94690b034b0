"""Stops jobs: on a person's word or deed, and later those that it should have caught.

A stop is recorded first, and then the issue's queue is looked at; a job is queued first, and
then the records of stops are looked at. So a request that waits in the backlog while its stop
overtakes it is stopped as well: it becomes a job with its one visible result, and never runs.
"""

from __future__ import annotations

import logging
from typing import Protocol

from patchwright_common import telemetry
from patchwright_common.bus import Bus
from patchwright_common.claims import Cancel, Claims
from patchwright_common.errors import Permanent
from patchwright_common.events import JobCancelled, JobRequested
from patchwright_common.flow import JOB_CANCELLED
from patchwright_common.messaging import Delivery, whole_body
from patchwright_ingest.attempts import EMPTY, Queue
from patchwright_ingest.mention import Mention
from patchwright_ingest.stop import Stop, find_stop, keys_of
from patchwright_ingest.trigger import Ignored, Payload, read

log = logging.getLogger(__name__)


class Writers(Protocol):
    """Who may say stop."""

    async def may_write(self, payload: Payload, login: str) -> bool:
        """Whether this person can push to the repository."""
        ...


class Stops:
    """What was stopped, and carrying it out. Every method may run twice."""

    def __init__(self, bus: Bus, claims: Claims) -> None:
        self._bus = bus
        self._claims = claims

    async def record(self, key: str, stop: Stop) -> None:
        """Remember it, for requests that are older and come later."""
        await self._claims.change(key, Stop, stop.after)

    async def stop_queue(self, issue: str) -> None:
        """End the jobs of `<repository>-<issue>` that a recorded stop covers."""
        queue = await self._claims.read(f"queue.{issue}", Queue) or EMPTY
        for job_id in queue.waiting:
            await self.is_stopped(job_id)

    async def is_stopped(self, job_id: str) -> bool:
        """Whether the job must not run; then the event that ends it is there as well.

        One with an outcome is not touched: a change that was decided first wins.
        """
        if await self._claims.outcome(job_id) is not None:
            return False
        cancel = await self._claims.cancelled(job_id)
        if cancel is None:
            stop = await self._stop_of(job_id)
            if stop is None:
                return False
            proposed = Cancel(by=stop.by, cause=stop.cause, at=stop.at)
            cancel = await self._claims.cancel(job_id, proposed)
            log.info("%s is stopped: %s by %s", job_id, cancel.cause, cancel.by)
        event = JobCancelled(job_id=job_id, by=cancel.by, cause=cancel.cause, at=cancel.at)
        with telemetry.job(job_id):
            # Each time: after a crash in between, nobody else would.
            await self._bus.emit(JOB_CANCELLED, event, step="cancelled")
        return True

    async def _stop_of(self, job_id: str) -> Stop | None:
        """The recorded stop that covers the job."""
        stops = [await self._claims.read(key, Stop) for key in keys_of(job_id)]
        if not any(stops):
            return None
        try:
            job = await self._bus.job(job_id)
        except Permanent as error:
            log.error("%s cannot be stopped: %s", job_id, error.reason)
            return None
        return next((stop for stop in stops if stop and _covers(stop, job)), None)


class Stopping:
    """The handler of deliveries that may stop jobs."""

    def __init__(self, bus: Bus, stops: Stops, writers: Writers, mention: Mention) -> None:
        self._bus = bus
        self._stops = stops
        self._writers = writers
        self._mention = mention

    async def on_delivery(self, delivery: Delivery) -> None:
        """Stop what the delivery stops. What is no stop ends here at once."""
        try:
            payload = read(await whole_body(self._bus, delivery))
        except Permanent as error:
            # Whoever reads it as a request writes the dead letter.
            return _ignore(error.reason)
        found = find_stop(delivery.subject.split(".")[2], payload, mention=self._mention)
        if isinstance(found, Ignored):
            return _ignore(found.reason)
        if found.by_word and not await self._writers.may_write(payload, found.stop.by):
            return _ignore(f"{found.stop.by} has no write access")
        await self._stops.record(found.key, found.stop)
        await self._stops.stop_queue(f"{payload.repository.id}-{payload.issue.number}")
        return None


def _covers(stop: Stop, job: JobRequested) -> bool:
    return stop.covers(job.job_id, job.asked_at or job.requested_at)


def _ignore(reason: str) -> None:
    log.debug("nothing is stopped: %s", reason)
    telemetry.note(telemetry.REASON, reason)
