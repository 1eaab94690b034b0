"""What must hold in every life of a job: while it goes on, and when everything has come to rest."""

from __future__ import annotations

from collections import Counter

from patchwright_common import flow
from patchwright_common.claims import Claim, Outcome
from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobRequested,
)
from patchwright_ingest.attempts import Attempts, Queue
from patchwright_ingest.turns import NO_TURNS, Turns
from patchwright_publisher.pull_request import branch_of, marker_of
from patchwright_runner.ownership import CRASH_LIMIT

from .broker import Stored
from .fate import must
from .services import World

FINAL = {
    "pw.evt.change.produced": ChangeProduced,
    "pw.evt.answer.produced": AnswerProduced,
    "pw.evt.job.failed": JobFailed,
    "pw.evt.job.cancelled": JobCancelled,
}
KINDS = {
    ChangeProduced: "pull_request",
    AnswerProduced: "answer",
    JobFailed: "failure",
    JobCancelled: "cancelled",
}
HEADS = {"pull_request": "### ✅", "answer": "### 💬", "failure": "### ❌", "cancelled": "### 🛑"}
OF_AN_EPOCH = (flow.JOB_STARTED, flow.JOB_PROGRESSED, flow.CHANGE_PRODUCED, flow.ANSWER_PRODUCED)
MAY_BE_GIVEN_UP = tuple(
    f"{flow.DEAD_LETTER.prefix}.{consumer.name.replace('-', '.')}."
    for consumer in (
        flow.RUNNER_JOB_READIED,
        flow.PUBLISHER_JOB_STARTED,
        flow.PUBLISHER_JOB_PROGRESSED,
    )
)
"""The agent's failure is the job's, and progress is worth little; nothing else has a reason to."""


class Laws:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._after_takeover: Counter[tuple[str, int]] = Counter()
        self._readied: Counter[str] = Counter()
        world.broker.on_change = self._on_change
        world.broker.on_store = self._on_store

    # --- while it goes on --------------------------------------------------------------

    def _on_change(self, key: str, stored: bytes | None, new: bytes) -> None:
        """Once decided is decided, unless it could not be completed."""
        if not key.startswith("outcome.") or stored is None:
            return
        before, after = Outcome.model_validate_json(stored), Outcome.model_validate_json(new)
        must(before.reported_at is None, f"{key} was visible, and changed")
        if after.sequence != before.sequence:
            event = self._final(after.sequence)
            undone = event.sequence if isinstance(event, JobFailed) else None
            must(undone == before.sequence, f"{key} was decided twice")

    def _on_store(self, message: Stored) -> None:
        route, _, job_id = message.subject.rpartition(".")
        if route == flow.JOB_READIED.prefix:
            self._alone(job_id)
            self._readied[job_id] += ":again:" not in message.headers.get("Nats-Msg-Id", "")
            must(self._readied[job_id] <= 1, f"{job_id} was readied twice, not by the sweeper")
        for of_epoch in OF_AN_EPOCH:
            if route == of_epoch.prefix:
                assert of_epoch.payload
                event = of_epoch.payload.model_validate_json(message.data)
                self._in_time(job_id, event.epoch)  # type: ignore[attr-defined]

    def _alone(self, job_id: str) -> None:
        """One job at a time on an issue."""
        if self._outcome(job_id) is not None:
            return
        jobs = self.jobs()
        others = [j for j in self._readied if jobs[j].issue_number == jobs[job_id].issue_number]
        for other in others:
            shown = self._outcome(other)
            is_over = shown is not None and shown.reported_at is not None
            must(is_over or other == job_id, f"{job_id} was readied while {other} ran")

    def _in_time(self, job_id: str, epoch: int) -> None:
        """Who was overtaken stores what it is just sending, and nothing more."""
        claim = Claim.model_validate_json(self._world.broker.records[f"claim.{job_id}"][0])
        if claim.epoch > epoch:
            self._after_takeover[job_id, epoch] += 1
            must(self._after_takeover[job_id, epoch] <= 1, f"{job_id}: epoch {epoch} went on")

    # --- at rest -----------------------------------------------------------------------

    def at_rest(self) -> None:
        """Exactly one result for each accepted request."""
        jobs = self.jobs()
        for trigger in self._world.asked:
            record = self._world.broker.records[f"trigger.{trigger}"][0]
            attempts = Attempts.model_validate_json(record).deliveries
            wanted = {f"{trigger}-{n}" for n in range(1, len(attempts) + 1)}
            assert wanted == {job_id for job_id in jobs if job_id.rpartition("-")[0] == trigger}
        for job in jobs.values():
            self._one_result(job)
            deaths = self._world.agents.deaths.get(job.job_id, 0)
            assert deaths <= CRASH_LIMIT, f"{job.job_id} took down {deaths} runners"
        assert len(self._world.site.comments) == len(jobs)
        for key, (value, _) in self._world.broker.records.items():
            if key.startswith("queue."):
                assert Queue.model_validate_json(value).waiting == ()
            if key.startswith("turns."):
                assert Turns.model_validate_json(value) == NO_TURNS
        for letter in self._world.broker.streams[flow.PW_DLQ.name]:
            assert letter.subject.startswith(MAY_BE_GIVEN_UP), letter.headers

    def _one_result(self, job: JobRequested) -> None:
        site, outcome = self._world.site, self._outcome(job.job_id)
        assert outcome is not None
        assert outcome.reported_at is not None
        event = self._final(outcome.sequence)
        assert event.job_id == job.job_id
        assert outcome.kind == KINDS[type(event)]
        marker = marker_of(job.job_id, f"mark-{job.job_id}")
        [text] = [c.text for _, c in site.comments.values() if marker in c.text]
        assert text.startswith(HEADS[outcome.kind]), f"{job.job_id} ends with: {text}"
        results = {
            written.partition("<sub>")[0]
            for written in site.written
            if marker in written and written.startswith(tuple(HEADS.values()))
        }
        assert len(results) == 1, f"{job.job_id} had more than one result: {results}"
        opened = site.pulls.get(branch_of(job))
        assert (opened is not None) == isinstance(event, ChangeProduced)
        if isinstance(event, ChangeProduced):
            assert opened
            assert opened.url in text
            assert site.branches[branch_of(job)] == event.summary
        elif isinstance(event, AnswerProduced):
            assert event.answer in text
        elif isinstance(event, JobFailed):
            assert event.reason in text
        finished = [
            JobFinished.model_validate_json(message.data)
            for message in self._world.broker.streams[flow.PW_EVENTS.name]
            if message.subject == flow.JOB_FINISHED.subject(job.job_id)
        ]
        assert {(one.result, one.url) for one in finished} == {(outcome.kind, outcome.url)}

    # --- what is there -----------------------------------------------------------------

    def jobs(self) -> dict[str, JobRequested]:
        """By id, in the order of their records."""
        records = [
            JobRequested.model_validate_json(message.data)
            for message in self._world.broker.streams[flow.PW_EVENTS.name]
            if message.subject.startswith(f"{flow.JOB_REQUESTED.prefix}.")
        ]
        return {job.job_id: job for job in records}

    def _outcome(self, job_id: str) -> Outcome | None:
        stored = self._world.broker.records.get(f"outcome.{job_id}")
        return Outcome.model_validate_json(stored[0]) if stored else None

    def _final(self, sequence: int) -> ChangeProduced | AnswerProduced | JobFailed | JobCancelled:
        message = self._world.broker.streams[flow.PW_EVENTS.name][sequence - 1]
        kind = FINAL[message.subject.rpartition(".")[0]]
        return kind.model_validate_json(message.data)  # type: ignore[no-any-return,attr-defined]
