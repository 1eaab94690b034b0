"""`PW_CLAIMS`: who works on a job, what its one result is, who waits behind it.

Acknowledgements are not the truth: a process that was paused can wake up and
acknowledge the message of the one that took over. What counts is here, changed by
compare-and-set only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from pydantic import BaseModel, ConfigDict, ValidationError

from patchwright_common.bus import AWAY
from patchwright_common.errors import Overtaken, Retry
from patchwright_common.flow import PW_CLAIMS

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

CONTENTION_LIMIT = 50
"""How often a compare-and-set is tried before the caller is told to come back."""
LISTING_TIMEOUT = 30.0
"""Seconds to list every key."""
LISTING_LIMIT = 100_000
"""Subjects that the server names in one answer."""

Kind = Literal["pull_request", "answer", "failure", "cancelled"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Progress(_Record):
    """After which turn a job can go on, and what was kept of it in `PW_CHECKPOINTS`.

    `agent` is the kind of agent that worked on it. `crashes` is how many runners had died with
    the job until then.
    """

    epoch: int
    turn: int
    agent: str
    transcript_sha256: str
    tree_sha256: str
    crashes: int = 0


class Claim(_Record):
    """`claim.<job_id>`: the runner that owns the job. A higher epoch ends a lower one.

    `retries` counts the attempts that ended by themselves, and `resting` says that this one
    did: its message comes again, at a time that the broker knows.
    """

    epoch: int
    owner: str
    beaten_at: datetime
    retries: int = 0
    resting: bool = False
    progress: Progress | None = None

    @property
    def crashes(self) -> int:
        """How many runners died with the job before this epoch."""
        return self.epoch - self.retries - 1

    @property
    def fruitless(self) -> int:
        """How many of them since the last turn that was kept."""
        return self.crashes - (self.progress.crashes if self.progress else 0)


class Outcome(_Record):
    """`outcome.<job_id>`: which event decided the result; the first one to be written wins.

    `sequence` is the deciding event's place in `PW_EVENTS`, so that anybody can
    complete the result. `reported_at` is GitHub's clock when the result became
    visible there, None until then.
    """

    kind: Kind
    sequence: int
    reported_at: datetime | None = None
    url: str = ""


class Cancel(_Record):
    """`cancel.<job_id>`: a person ended the job; nobody works on it or decides another result.

    The fields are those of `JobCancelled`. What was decided before stands.
    """

    by: str
    cause: str
    at: datetime


Record = TypeVar("Record", bound=BaseModel)
"""Each kind needs a required field: every service can let the server write its answers, JSON
with other fields, to any key, and that must not pass for an empty record."""


class Unreadable(Retry):
    """What is stored is no record, so nothing can be decided; it was left as it is."""


class Claims:
    """Typed access to the bucket.

    Every method raises `Retry` when NATS does not answer, and `Unreadable` for a record
    that is none of ours.
    """

    def __init__(self, js: JetStreamContext, bucket: KeyValue) -> None:
        self._js = js
        self._bucket = bucket

    @classmethod
    async def open(cls, js: JetStreamContext) -> Claims:
        """Bind to the bucket that `just topology` made. Raises `Retry` when it is not there."""
        async with _errors():
            return cls(js, await js.key_value(PW_CLAIMS.name))

    async def read(self, key: str, kind: type[Record]) -> Record | None:
        """The record at `key`, or None."""
        async with _errors():
            try:
                entry = await self._bucket.get(key)
            except KeyNotFoundError:
                return None
        return _parsed(key, kind, entry.value)

    async def change(
        self, key: str, kind: type[Record], step: Callable[[Record | None], Record]
    ) -> Record:
        """Replace the record by `step(record)`; `step` may be called several times."""
        async with _errors():
            for _ in range(CONTENTION_LIMIT):
                try:
                    entry = await self._bucket.get(key)
                    revision: int = entry.revision or 0
                    before = _parsed(key, kind, entry.value)
                except KeyNotFoundError as missing:
                    # An operator's delete leaves a marker, and that has a revision.
                    revision = (missing.entry.revision if missing.entry else 0) or 0
                    before = None
                after = step(before)
                if after == before:
                    return after
                try:
                    await self._bucket.update(key, after.model_dump_json().encode(), revision)
                except KeyWrongLastSequenceError:
                    continue
                return after
        raise Retry(f"too many writers on {key}")

    # --- the job's owner ---------------------------------------------------------------

    async def take(self, job_id: str, owner: str) -> Claim:
        """Become the job's owner under a new epoch; whoever had it is overtaken."""

        def raise_epoch(before: Claim | None) -> Claim:
            return Claim(
                epoch=before.epoch + 1 if before else 1,
                owner=owner,
                beaten_at=datetime.now(UTC),
                retries=before.retries if before else 0,
                progress=before.progress if before else None,
            )

        return await self.change(f"claim.{job_id}", Claim, raise_epoch)

    async def beat(self, job_id: str, epoch: int, *, retrying: bool = False) -> None:
        """Say that the owner is alive. Raises `Overtaken` when a newer epoch exists.

        `retrying` records that this attempt ends by itself and did not crash.
        """
        rest: dict[str, object] = {"resting": True} if retrying else {}
        await self._own(job_id, epoch, lambda own: {"retries": own.retries + retrying, **rest})

    async def progress(self, job_id: str, epoch: int, made: Progress) -> None:
        """Record a turn that was kept. Raises `Overtaken` when a newer epoch exists."""

        def step(own: Claim) -> dict[str, object]:
            return {"progress": made.model_copy(update={"crashes": own.crashes})}

        await self._own(job_id, epoch, step)

    async def _own(
        self, job_id: str, epoch: int, step: Callable[[Claim], dict[str, object]]
    ) -> None:
        """Change our own claim, which shows that we are alive, too."""

        def refresh(before: Claim | None) -> Claim:
            if before is None or before.epoch != epoch:
                raise Overtaken(f"{job_id} belongs to another runner")
            return before.model_copy(update={"beaten_at": datetime.now(UTC), **step(before)})

        await self.change(f"claim.{job_id}", Claim, refresh)

    async def claim(self, job_id: str) -> Claim | None:
        """The current claim, or None when no runner ever took the job."""
        return await self.read(f"claim.{job_id}", Claim)

    # --- the job's end by a person -----------------------------------------------------

    async def cancel(self, job_id: str, proposed: Cancel) -> Cancel:
        """Let nobody work on the job any more; the first who said so stays."""
        return await self.change(f"cancel.{job_id}", Cancel, lambda before: before or proposed)

    async def cancelled(self, job_id: str) -> Cancel | None:
        """Who ended the job, or None."""
        return await self.read(f"cancel.{job_id}", Cancel)

    # --- the job's one result ----------------------------------------------------------

    async def decide(self, job_id: str, proposed: Outcome) -> Outcome:
        """Propose a result and learn which one holds: the first ever proposed."""
        return await self.change(f"outcome.{job_id}", Outcome, lambda before: before or proposed)

    async def replace(self, job_id: str, undone: int, proposed: Outcome) -> Outcome:
        """Let `proposed` take the place of the outcome that event `undone` decided.

        Only while that result is not visible: its completion has failed for good.
        """

        def step(before: Outcome | None) -> Outcome:
            if before and (before.sequence != undone or before.reported_at):
                return before
            return proposed

        return await self.change(f"outcome.{job_id}", Outcome, step)

    async def report(self, job_id: str, *, kind: Kind, url: str, at: datetime) -> Outcome:
        """Record that the result is visible on GitHub, as what; the first report stays."""

        def mark(before: Outcome | None) -> Outcome:
            if before is None:
                raise Retry(f"{job_id} has no outcome to report")
            if before.reported_at:
                return before
            return before.model_copy(update={"reported_at": at, "url": url, "kind": kind})

        return await self.change(f"outcome.{job_id}", Outcome, mark)

    async def outcome(self, job_id: str) -> Outcome | None:
        """The decided result, or None while the job is open."""
        return await self.read(f"outcome.{job_id}", Outcome)

    async def keys(self, prefix: str) -> list[str]:
        """The names behind `<prefix>.`, for sweeping. Deleted ones may be among them.

        Asked from the stream: nats-py lists by a consumer of its own, which no service may make.
        """
        subjects = f"$KV.{PW_CLAIMS.name}.{prefix}."
        async with _errors(), asyncio.timeout(LISTING_TIMEOUT):
            info = await self._js.stream_info(
                f"KV_{PW_CLAIMS.name}", subjects_filter=f"{subjects}>"
            )
        found = [name.removeprefix(subjects) for name in info.state.subjects or {}]
        if len(found) >= LISTING_LIMIT:
            log.error("%s holds more %s records than can be listed", PW_CLAIMS.name, prefix)
        return found


def _parsed(key: str, kind: type[Record], stored: bytes | None) -> Record:
    """The record; what else is there is not quoted."""
    try:
        return kind.model_validate_json(stored or b"")
    except ValidationError:
        raise Unreadable(
            f"{PW_CLAIMS.name} holds something else than a {kind.__name__} at {key}, and it was "
            "left as it is; operators: look at who wrote it, then put the record right or delete it"
        ) from None


@asynccontextmanager
async def _errors() -> AsyncIterator[None]:
    try:
        yield
    except AWAY as error:
        raise Retry(f"{PW_CLAIMS.name} did not answer: {error!r}") from error
