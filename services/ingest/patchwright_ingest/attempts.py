"""Which attempt a delivery belongs to, and whose turn it is on an issue. Pure.

The same trigger is reported more than once: GitHub redelivers, an issue opened with
the label is reported as opened and as labelled, operators replay. All of that is one
attempt, until somebody asks again after the result was there.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from patchwright_common.claims import Outcome


class Attempts(BaseModel):
    """`trigger.<key>` in `PW_CLAIMS`: the deliveries behind each attempt, oldest first."""

    model_config = ConfigDict(frozen=True)

    deliveries: tuple[tuple[str, ...], ...]

    def of(self, delivery_id: str) -> int | None:
        """The attempt (from 1) that this delivery was counted to, if it was seen before."""
        for number, seen in enumerate(self.deliveries, start=1):
            if delivery_id in seen:
                return number
        return None

    def joined(self, delivery_id: str) -> Attempts:
        """Count the delivery to the latest attempt."""
        *before, latest = self.deliveries
        return Attempts(deliveries=(*before, (*latest, delivery_id)))

    def renewed(self, delivery_id: str) -> Attempts:
        """Let the delivery begin a new attempt."""
        return Attempts(deliveries=(*self.deliveries, (delivery_id,)))


NO_ATTEMPTS = Attempts(deliveries=())
"""What there is before the first delivery."""


def assign(
    attempts: Attempts,
    delivery_id: str,
    *,
    at: datetime,
    replay: bool,
    latest: Outcome | None,
    stopped_at: datetime | None = None,
) -> Attempts:
    """The record with this delivery counted to an attempt.

    `latest` is the outcome of the latest attempt and `at` when the request was made;
    both `at` and `reported_at` are GitHub's clock, so that ours may drift. `stopped_at` is
    when somebody stopped that attempt: who asks after that need not wait until it is said.
    """
    if attempts.of(delivery_id):
        return attempts
    undone = latest is None or latest.kind == "cancelled"
    after_stop = stopped_at is not None and undone and at > stopped_at
    asked_again = after_stop or (
        latest is not None and latest.reported_at is not None and at > latest.reported_at
    )
    if not attempts.deliveries or replay or asked_again:
        return attempts.renewed(delivery_id)
    return attempts.joined(delivery_id)


class Queue(BaseModel):
    """`queue.<repository>-<issue>` in `PW_CLAIMS`: one job at a time for each issue.

    Finished jobs stay listed, so that a late redelivery cannot queue them again.
    """

    model_config = ConfigDict(frozen=True)

    waiting: tuple[str, ...]
    finished: tuple[str, ...]

    @property
    def head(self) -> str | None:
        """The job that may run."""
        return self.waiting[0] if self.waiting else None

    def with_job(self, job_id: str) -> Queue:
        """Queue a job behind the others; a job that is known already stays where it is."""
        if job_id in self.waiting or job_id in self.finished:
            return self
        return self.model_copy(update={"waiting": (*self.waiting, job_id)})

    def without_job(self, job_id: str) -> Queue:
        """Take a job out because it has its result."""
        if job_id in self.finished:
            return self
        waiting = tuple(job for job in self.waiting if job != job_id)
        return Queue(waiting=waiting, finished=(*self.finished, job_id))


EMPTY = Queue(waiting=(), finished=())
"""What there is before an issue's first job."""
