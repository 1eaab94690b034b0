"""Which deliveries never arrived, and what is to be done about each. Pure.

Ingest answers 2xx only after JetStream's PubAck. So a delivery has arrived exactly if one of
its attempts in GitHub's log has a 2xx status; GitHub itself never tries again. All attempts of
one delivery have the same GUID, by which triage knows it again: asking once too often is waste,
never a second job.

Times are in seconds since the epoch: those of attempts by GitHub's clock, the others by ours.
Only waits compare the two, so a clock that drifts makes a redelivery early or late.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from patchwright_common import flow

RETENTION = 3 * flow.DAY
"""Seconds for which GitHub can deliver again.
https://docs.github.com/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks"""
ATTEMPTS_LIMIT = 40
"""Attempts, GitHub's own first one included, after which no more are asked for."""
WAITS = (1, 2, 5, 10, 20, 30, 60, 120)
"""Intervals to wait after each failed attempt; the last one repeats. By the minute, they last as
long as GitHub can deliver again."""
HOPELESS = (400, 413, 415)
"""What ingest answers to a delivery that no second attempt makes better. Not 401: a wrong
secret is mended."""
OVERLAP = 120.0
"""Seconds of the log that are read again: an attempt that was under way for GitHub's 10 s
appears behind newer ones."""
OPEN_LIMIT = 2000
"""Deliveries in the record, which must fit into one message. The rest waits its turn, unread."""


def consumed_events() -> frozenset[str]:
    """The events that a consumer of raw deliveries listens to; nobody misses the others."""
    subjects = (s for c in flow.DELIVERY_RECEIVED.consumers for s in c.subjects)
    return frozenset(subject.split(".")[2] for subject in subjects)


class Attempt(BaseModel):
    """An entry of the log, as the vault passes it on. `status_code` is 0 without an answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    id: int
    guid: Annotated[str, Field(max_length=64)]
    event: Annotated[str, Field(max_length=64)]
    status_code: int
    delivered_at: AwareDatetime

    @property
    def at(self) -> float:
        """When it was made."""
        return self.delivered_at.timestamp()

    @property
    def arrived(self) -> bool:
        """Whether ingest has it."""
        return 200 <= self.status_code < 300


class Missed(BaseModel):
    """A delivery all of whose attempts have failed so far."""

    model_config = ConfigDict(frozen=True)

    guid: str
    event: str
    id: int
    """Of its newest attempt, which is the one to be made again."""
    status: int
    first_at: float
    last_at: float
    attempts: int = 1
    asked_at: float = 0.0
    """When a redelivery was last asked for; the attempt appears in the log a while later."""
    given_up: bool = False

    def failed_again(self, attempt: Attempt) -> Missed:
        """With one more attempt, unless that is known."""
        if (attempt.at, attempt.id) <= (self.last_at, self.id):
            return self
        changes = {"id": attempt.id, "status": attempt.status_code, "last_at": attempt.at}
        return self.model_copy(update={**changes, "attempts": self.attempts + 1})


class Record(BaseModel):
    """`log` in `PW_RECOVERY`: how far the log is known, and what of it is missed."""

    model_config = ConfigDict(frozen=True)

    read_until: float
    """Of everything before this, what is missed is in `missed`."""
    looked_at: float = 0.0
    """When some ingest process last looked: one look is enough for all."""
    arrived_at: float = 0.0
    """The newest attempt that arrived: since then the way is open."""
    missed: tuple[Missed, ...] = ()


NOTHING = Record(read_until=0.0)
"""What there is before the first look."""


def learnt(record: Record, attempts: Iterable[Attempt], events: Collection[str]) -> Record:
    """The record with these attempts, in whatever order and however often they come."""
    new = sorted((a for a in attempts if a.at >= record.read_until), key=lambda a: (a.at, a.id))
    arrived = {attempt.guid for attempt in new if attempt.arrived}
    missed = {one.guid: one for one in record.missed if one.guid not in arrived}
    read_until = max(record.read_until, new[-1].at - OVERLAP) if new else record.read_until
    for attempt in new:
        if attempt.guid in arrived or attempt.event not in events:
            continue
        if attempt.guid in missed:
            missed[attempt.guid] = missed[attempt.guid].failed_again(attempt)
        elif len(missed) < OPEN_LIMIT:
            missed[attempt.guid] = _first(attempt)
        else:
            read_until = min(read_until, attempt.at)
    kept = (one for one in missed.values() if not one.given_up or one.last_at >= read_until)
    return record.model_copy(
        update={
            "read_until": read_until,
            "arrived_at": max([record.arrived_at, *(a.at for a in new if a.arrived)]),
            "missed": tuple(kept),
        }
    )


def _first(attempt: Attempt) -> Missed:
    return Missed(
        guid=attempt.guid,
        event=attempt.event,
        id=attempt.id,
        status=attempt.status_code,
        first_at=attempt.at,
        last_at=attempt.at,
    )


@dataclass(frozen=True)
class GivenUp:
    """A delivery that stays lost, and why: for the operator."""

    missed: Missed
    reason: str


@dataclass(frozen=True)
class Plan:
    """What to do now; `record` is what to note down before it is done."""

    record: Record
    redeliver: tuple[Missed, ...] = ()
    given_up: tuple[GivenUp, ...] = ()


def planned(record: Record, *, now: float, interval: float, limit: int) -> Plan:
    """At most `limit` redeliveries, the oldest first. `interval` in seconds is between looks."""
    redeliver: list[Missed] = []
    given_up: list[GivenUp] = []
    after: dict[str, Missed] = {}
    for one in sorted(record.missed, key=lambda one: one.first_at):
        reason = "" if one.given_up else hopeless(one, now)
        if reason:
            given_up.append(GivenUp(one, reason))
            after[one.guid] = one.model_copy(update={"given_up": True})
        elif len(redeliver) < limit and due(one, record.arrived_at, now=now, interval=interval):
            redeliver.append(one)
            after[one.guid] = one.model_copy(update={"asked_at": now})
    missed = tuple(after.get(one.guid, one) for one in record.missed)
    return Plan(record.model_copy(update={"missed": missed}), tuple(redeliver), tuple(given_up))


def hopeless(missed: Missed, now: float) -> str:
    """Why nothing more is tried, or empty."""
    if missed.status in HOPELESS:
        return f"ingest answered {missed.status}, and would again"
    if missed.attempts >= ATTEMPTS_LIMIT:
        return f"{missed.attempts} attempts failed, the last one with {missed.status}"
    if now - missed.first_at > RETENTION:
        return f"it failed for {RETENTION / flow.DAY:.0f} days, the last time with {missed.status}"
    return ""


def due(missed: Missed, arrived_at: float, *, now: float, interval: float) -> bool:
    """Whether it is time for another attempt.

    Once something has arrived since its last attempt, the way is open again, and waiting
    grows by one interval each time instead of up to `WAITS[-1]`.
    """
    if missed.given_up:
        return False
    wait = WAITS[min(missed.attempts, len(WAITS)) - 1]
    if arrived_at > missed.last_at:
        wait = min(wait, missed.attempts)
    return now - max(missed.last_at, missed.asked_at) >= wait * interval
