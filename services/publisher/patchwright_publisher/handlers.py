"""The publisher's consumers: progress here, results in `results.py`."""

from __future__ import annotations

import contextlib
import time

from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.errors import Overtaken
from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    JobCancelled,
    JobFailed,
    JobProgressed,
    JobRequested,
    JobStarted,
)
from patchwright_common.messaging import Delivery
from patchwright_publisher.pull_request import Texts
from patchwright_publisher.results import Results


class Handlers:
    """Thin: read the event, call the one thing that it means.

    `progress_interval` in seconds spaces out the edits of a job's comment, because
    GitHub limits writes (https://docs.github.com/rest/using-the-rest-api/best-practices).
    """

    def __init__(
        self,
        bus: Bus,
        claims: Claims,
        results: Results,
        texts: Texts,
        *,
        progress_interval: float,
    ) -> None:
        self._bus = bus
        self._claims = claims
        self._results = results
        self._texts = texts
        self._interval = progress_interval
        self._edited: dict[str, float] = {}

    async def on_requested(self, delivery: Delivery) -> None:
        """Acknowledge on the issue."""
        job = delivery.read(JobRequested)
        outcome = await self._claims.outcome(job.job_id)
        if outcome is not None and delivery.delivered == 1:
            return
        if outcome is None:
            comment, sign = await self._results.comment(job, self._results.undecided(job.job_id))
            # Whoever was paused wakes up behind the result, or behind another's comment.
            with contextlib.suppress(Overtaken):
                await comment.write(sign(self._texts.requested()))
        else:
            # Killed after it wrote a comment, before it could note it down.
            comment, _ = await self._results.comment(job)
            await comment.tidy()

    async def on_started(self, delivery: Delivery) -> None:
        """Show that a runner is at it."""
        event = delivery.read(JobStarted)
        job = await self._bus.job(event.job_id)
        await self._show_progress(delivery, job, event.epoch, self._texts.started(job, event))

    async def on_progressed(self, delivery: Delivery) -> None:
        """Show what the last turn did, unless an edit was made a moment ago."""
        event = delivery.read(JobProgressed)
        now = time.monotonic()
        recent = now - self._edited.get(event.job_id, -self._interval) < self._interval
        if recent and delivery.delivered == 1:
            return
        self._edited = {k: at for k, at in self._edited.items() if now - at < self._interval}
        self._edited[event.job_id] = now
        job = await self._bus.job(event.job_id)
        await self._show_progress(delivery, job, event.epoch, self._texts.progressed(event))

    async def _show_progress(
        self, delivery: Delivery, job: JobRequested, epoch: int, text: str
    ) -> None:
        if await self._claims.outcome(job.job_id) is None:
            claim = await self._claims.claim(job.job_id)
            if claim is None or claim.epoch != epoch:
                return
            comment, sign = await self._results.comment(job, self._results.undecided(job.job_id))
            try:
                edited = await comment.update(sign(text))
            except Overtaken:
                return
            if edited is not None:
                # The result may have become visible while we edited: show it over our text.
                await self._results.show_again(job.job_id, edited.at)
        elif delivery.delivered > 1:
            # So it may have in an earlier delivery that did not end.
            await self._results.show_again(job.job_id)

    async def on_change(self, delivery: Delivery) -> None:
        """Open the pull request."""
        await self._results.change(delivery.read(ChangeProduced), delivery.sequence)

    async def on_answer(self, delivery: Delivery) -> None:
        """Post the answer."""
        await self._results.answer(delivery.read(AnswerProduced), delivery.sequence)

    async def on_failed(self, delivery: Delivery) -> None:
        """Say what happened."""
        await self._results.failure(delivery.read(JobFailed), delivery.sequence)

    async def on_cancelled(self, delivery: Delivery) -> None:
        """Say who stopped it."""
        await self._results.cancelled(delivery.read(JobCancelled), delivery.sequence)
