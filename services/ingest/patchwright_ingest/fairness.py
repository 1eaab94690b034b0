"""Lets jobs run by turns, and sweeps up where a step between two records was lost."""

from __future__ import annotations

import hashlib
import logging
from contextlib import AbstractAsyncContextManager

from patchwright_common import steps
from patchwright_common.beside import repeated
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims, Unreadable
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import JobReadied, JobRequested
from patchwright_common.flow import JOB_READIED
from patchwright_ingest.attempts import EMPTY, Queue
from patchwright_ingest.stopping import Stops
from patchwright_ingest.turns import NO_TURNS, NOTHING_ASKED, Asked, Shares, Turns

log = logging.getLogger(__name__)

PAUSE = 60.0
"""Seconds between two sweeps."""
LOOKS = 20
"""How often a queue that changes all the time is looked at before the message comes back."""


def queue_key(job: JobRequested) -> str:
    """Where the queue of the job's issue is."""
    return f"queue.{job.repository.id}-{job.issue_number}"


class Fairness:
    """Every method may be called again, and by several triages at once."""

    def __init__(self, bus: Bus, claims: Claims, shares: Shares) -> None:
        self._bus = bus
        self._claims = claims
        self._shares = shares
        self._stops = Stops(bus, claims)

    async def admits(self, job: JobRequested) -> bool:
        """Whether its sender may ask for one more."""
        # GitHub's logins ignore case; a key takes fewer characters than Enterprise's may have.
        sender = hashlib.sha256(job.sender.casefold().encode()).hexdigest()[:32]
        asked = await self._claims.change(
            f"asked.{job.repository.installation_id}-{sender}",
            Asked,
            lambda before: (before or NOTHING_ASKED).with_request(
                job.job_id, job.requested_at, self._shares.sender
            ),
        )
        return asked.admits(job.job_id)

    def refusal(self, job: JobRequested) -> Permanent:
        """What the person is told."""
        return Permanent(
            f"{job.sender} asked for more than {self._shares.sender} jobs within an hour.",
            advice="Ask again in an hour. Operators: PATCHWRIGHT_REQUESTS_PER_SENDER.",
        )

    async def take_turns(self, job: JobRequested, queue: Queue) -> None:
        """Let the next job of this issue wait its turn, and ready all whose turn it is."""
        key = f"turns.{job.repository.installation_id}"
        for _ in range(LOOKS):

            def step(before: Turns | None, queue: Queue = queue) -> Turns:
                turns = (before or NO_TURNS).without(queue.finished)
                if queue.head:
                    turns = turns.with_job(queue.head, job.repository.id)
                return turns.advanced(self._shares)

            turns = await self._claims.change(key, Turns, step)
            # The head may have finished before it was put there: nobody else would take it out.
            latest = await self._claims.read(queue_key(job), Queue) or EMPTY
            if latest == queue:
                break
            queue = latest
        else:
            raise Retry("the issue's queue changes all the time")
        await self._ready(turns)

    async def _ready(self, turns: Turns) -> None:
        for turn in turns.ready:
            try:
                if await self._stops.is_stopped(turn.job_id):
                    continue  # it gives its place on with its result
            except Unreadable as error:
                # The others must not wait for the operator.
                log.error("%s keeps its place unused: %s", turn.job_id, error.reason)
                continue
            # Published again each time: after a crash in between, nobody else would.
            readied = JobReadied(job_id=turn.job_id)
            await self._bus.emit(JOB_READIED, readied, step="", once=True)
            steps.reached("triage.job-readied")

    # --- sweeping ----------------------------------------------------------------------

    def swept(self, *, pause: float = PAUSE) -> AbstractAsyncContextManager[None]:
        """Sweep now and then, for as long as the context lasts."""
        return repeated(self.sweep, pause=pause, what="swept (the turns of jobs)")

    async def sweep(self) -> None:
        """Let go on what a lost step left behind: a place that is held by a job with a result."""
        for installation in await self._claims.keys("turns"):
            try:
                await self._sweep(f"turns.{installation}")
            except Unreadable as error:
                log.error("the turns of %s are not swept: %s", installation, error.reason)

    async def _sweep(self, key: str) -> None:
        turns = await self._claims.read(key, Turns) or NO_TURNS
        for turn in (*turns.ready, *turns.waiting):
            try:
                outcome = await self._claims.outcome(turn.job_id)
            except Unreadable as error:
                log.error("%s keeps its place: %s", turn.job_id, error.reason)
                continue
            if outcome is not None and outcome.reported_at is not None:
                await self._finish(turn.job_id)
        await self._ready(await self._claims.read(key, Turns) or NO_TURNS)

    async def _finish(self, job_id: str) -> None:
        try:
            job = await self._bus.job(job_id)
        except Permanent as error:
            log.error("%s holds a place that cannot be given on: %s", job_id, error.reason)
            return
        queue = await self._claims.change(
            queue_key(job), Queue, lambda before: (before or EMPTY).without_job(job_id)
        )
        await self.take_turns(job, queue)
