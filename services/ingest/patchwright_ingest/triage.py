"""Consumers that turn deliveries into jobs and let one job an issue run at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from patchwright_common import steps, telemetry
from patchwright_common.bus import EXPECTED, Bus
from patchwright_common.claims import Claims
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import (
    NO_COMMIT,
    NO_JOB,
    JobFailed,
    JobFinished,
    JobRequested,
    Remark,
    Repository,
)
from patchwright_common.flow import JOB_FAILED
from patchwright_common.messaging import Delivery, whole_body
from patchwright_ingest.attempts import EMPTY, NO_ATTEMPTS, Attempts, Queue, assign
from patchwright_ingest.fairness import Fairness, queue_key
from patchwright_ingest.mention import Mention
from patchwright_ingest.stopping import Stops
from patchwright_ingest.trigger import Ignored, Payload, Trigger, find, read

log = logging.getLogger(__name__)

REPLAY = "patchwright-replay"
"""Header by which an operator sends a stored delivery as new: any id that was not used before."""


TEXT_LIMIT = 65_536
"""Characters of one text, as GitHub limits them; the record must fit into one message."""


class Repositories(Protocol):
    """What triage wants to know from GitHub."""

    async def may_write(self, payload: Payload, login: str) -> bool:
        """Whether this person can push to the repository."""
        ...

    def clone_url(self, payload: Payload) -> str:
        """Where to fetch from and push to."""
        ...

    async def head(self, payload: Payload) -> str:
        """The commit at the head of the default branch; zeros when there is none."""
        ...

    async def conversation(self, trigger: Trigger) -> tuple[Remark, ...]:
        """The issue's comments as they stood when the job was requested."""
        ...


class Room(Protocol):
    """Whether what a job stores has room."""

    async def check(self) -> None:
        """Raises `Retry` while it has too little."""
        ...


class Triage:
    """Handlers; every one may run twice."""

    def __init__(
        self,
        bus: Bus,
        claims: Claims,
        repositories: Repositories,
        mention: Mention,
        label: str,
        *,
        room: Room,
        fairness: Fairness,
    ) -> None:
        self._bus = bus
        self._claims = claims
        self._repositories = repositories
        self._mention = mention
        self._label = label
        self._stops = Stops(bus, claims)
        self._room = room
        self._fairness = fairness

    async def on_delivery(self, delivery: Delivery) -> None:
        """A delivery becomes a job, or a reason why not."""
        event = delivery.subject.split(".")[2]
        body = await whole_body(self._bus, delivery)
        trigger = find(event, read(body), mention=self._mention, label=self._label)
        if isinstance(trigger, Ignored):
            _ignore(trigger.reason)
            return
        await self._room.check()
        if not await self._repositories.may_write(trigger.payload, trigger.payload.sender.login):
            _ignore(f"{trigger.payload.sender.login} has no write access")
            return
        replay = delivery.headers.get(REPLAY, "")
        delivery_id = replay or delivery.headers.get("x-github-delivery", "")
        attempt = await self._attempt(trigger, delivery_id, replay=bool(replay))
        with telemetry.job(f"{trigger.key}-{attempt}"):
            # A replay asks anew, whatever was stopped before.
            asked_at = datetime.now(UTC) if replay else trigger.at
            await self._request(trigger, attempt, delivery_id, asked_at)

    async def _attempt(self, trigger: Trigger, delivery_id: str, *, replay: bool) -> int:
        key = f"trigger.{trigger.key}"
        before = await self._claims.read(key, Attempts) or NO_ATTEMPTS
        latest_id = f"{trigger.key}-{len(before.deliveries)}"
        latest = await self._claims.outcome(latest_id)
        cancel = await self._claims.cancelled(latest_id)

        def step(current: Attempts | None) -> Attempts:
            if (current or NO_ATTEMPTS) != before:
                raise Retry("another delivery of the same trigger is being counted", after=0.1)
            return assign(
                before,
                delivery_id,
                at=trigger.at,
                replay=replay,
                latest=latest,
                stopped_at=cancel.at if cancel else None,
            )

        after = await self._claims.change(key, Attempts, step)
        steps.reached("triage.attempt-counted")
        return after.of(delivery_id) or 1

    async def _request(
        self, trigger: Trigger, attempt: int, delivery_id: str, asked_at: datetime
    ) -> None:
        payload = trigger.payload
        conversation: tuple[Remark, ...] = ()
        base, refused = NO_COMMIT, ""
        try:
            conversation = await self._repositories.conversation(trigger)
            base = await self._repositories.head(payload)
        except Permanent as error:
            # Somebody who may ask did ask: as a job it ends with an answer, not in silence.
            refused = error.reason
        requested = JobRequested(
            job_id=f"{trigger.key}-{attempt}",
            repository=Repository(
                id=payload.repository.id,
                full_name=payload.repository.full_name,
                clone_url=self._repositories.clone_url(payload),
                default_branch=payload.repository.default_branch,
                installation_id=payload.installation.id,
            ),
            issue_number=payload.issue.number,
            title=payload.issue.title[:TEXT_LIMIT],
            body=(payload.issue.body or "")[:TEXT_LIMIT],
            sender=payload.sender.login,
            request=trigger.request[:TEXT_LIMIT],
            conversation=conversation,
            base=base,
            attempt=attempt,
            delivery_id=delivery_id,
            requested_at=datetime.now(UTC),
            refused=refused,
            asked_at=asked_at,
        )
        created = await self._bus.record(requested)
        steps.reached("triage.job-recorded")
        log.info("job requested" if created else "the job is known already")

    async def on_requested(self, delivery: Delivery) -> None:
        """Queue the job behind the others of its issue, and let the first one run."""
        # Not its body: the server's answers to other services can come on this subject too.
        try:
            job = await self._bus.job(delivery.job_id or NO_JOB)
        except Permanent as error:
            if EXPECTED.lower() in delivery.headers:
                raise
            # The record comes as a message of its own, if it ever comes.
            log.error("a message on %s is no record: %s", delivery.subject, error.reason)
            return
        if job.refused:
            await self._refuse(job, Permanent(job.refused))
        elif not await self._fairness.admits(job):
            await self._refuse(job, self._fairness.refusal(job))
        else:
            await self._ready(job, lambda queue: queue.with_job(job.job_id))
            # It is in the queue now, so a stop from here on finds it; one from before is found
            # here.
            await self._stops.is_stopped(job.job_id)

    async def on_finished(self, delivery: Delivery) -> None:
        """Let the issue's next job run."""
        finished = delivery.read(JobFinished)
        job = await self._bus.job(finished.job_id)
        await self._ready(job, lambda queue: queue.without_job(job.job_id))

    async def _refuse(self, job: JobRequested, refusal: Permanent) -> None:
        """End a job that cannot be tried; it waits behind nobody."""
        failed = JobFailed(
            job_id=job.job_id,
            stage="triage",
            reason=refusal.reason,
            advice=refusal.advice,
            trace_id=telemetry.trace_id(),
        )
        await self._bus.emit(JOB_FAILED, failed, step="refused")

    async def _ready(self, job: JobRequested, change: Callable[[Queue], Queue]) -> None:
        key = queue_key(job)
        queue = await self._claims.change(key, Queue, lambda before: change(before or EMPTY))
        steps.reached("triage.queue-changed")
        await self._fairness.take_turns(job, queue)


def _ignore(reason: str) -> None:
    log.info("no job: %s", reason)
    telemetry.note(telemetry.REASON, reason)
