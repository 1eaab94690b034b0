"""Which deliveries are missed, and what is done about each: the decision alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_ingest.missed import (
    ATTEMPTS_LIMIT,
    NOTHING,
    OPEN_LIMIT,
    OVERLAP,
    RETENTION,
    WAITS,
    Attempt,
    Missed,
    Plan,
    Record,
    consumed_events,
    hopeless,
    learnt,
    planned,
)

EVENTS = frozenset({"issues", "installation"})
NOON = 1_800_000_000.0
MINUTE = 60.0


def attempt(
    number: int, guid: str, status: int, *, at: float | None = None, event: str = "issues"
) -> Attempt:
    moment = datetime.fromtimestamp(NOON + number if at is None else at, UTC)
    return Attempt(id=number, guid=guid, event=event, status_code=status, delivered_at=moment)


def missed(**changed: object) -> Missed:
    known = {"guid": "a", "event": "issues", "id": 1, "status": 503}
    times = {"first_at": NOON, "last_at": NOON}
    return Missed.model_validate({**known, **times, **changed})


def plan(*of: Missed, now: float, limit: int = 50, arrived_at: float = 0.0) -> Plan:
    record = Record(read_until=0, arrived_at=arrived_at, missed=of)
    return planned(record, now=now, interval=MINUTE, limit=limit)


def guids(plan: Plan) -> list[str]:
    return [one.guid for one in plan.redeliver]


# --- what is missed --------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 401, 404, 500, 502, 503, 301])
def test_delivery_is_missed_when_no_attempt_has_2xx(status: int) -> None:
    [one] = learnt(NOTHING, [attempt(1, "a", status)], EVENTS).missed
    assert (one.guid, one.id, one.status, one.attempts) == ("a", 1, status, 1)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_delivery_has_arrived_when_any_attempt_has_2xx(status: int) -> None:
    arrived = [attempt(1, "a", 503), attempt(2, "a", status), attempt(3, "a", 0)]
    assert learnt(NOTHING, arrived, EVENTS).missed == ()


def test_nobody_misses_an_event_without_a_consumer() -> None:
    unheard = [attempt(1, "a", 0, event="ping"), attempt(2, "b", 0, event="star")]
    assert learnt(NOTHING, unheard, consumed_events()).missed == ()
    wanted = ("issues", "issue_comment", "installation", "installation_repositories")
    assert consumed_events() >= set(wanted)
    assert "ping" not in consumed_events()


def test_newest_attempt_is_the_one_to_be_made_again() -> None:
    failed = [attempt(3, "a", 401), attempt(1, "a", 0), attempt(2, "a", 503)]
    [one] = learnt(NOTHING, failed, EVENTS).missed
    assert (one.id, one.status, one.attempts) == (3, 401, 3)
    assert (one.first_at, one.last_at) == (NOON + 1, NOON + 3)


@given(
    history=st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from([0, 202, 401, 503])), max_size=24
    ),
    cuts=st.lists(st.integers(0, 24), max_size=5),
    spread=st.floats(0.0, 100.0),
)
def test_what_is_missed_does_not_depend_on_when_anybody_looked(
    history: list[tuple[str, int]], cuts: list[int], spread: float
) -> None:
    """Each look reads the log back to where it is known, whatever was there the last time."""
    log = [
        attempt(number, guid, status, at=NOON + number * spread)
        for number, (guid, status) in enumerate(history)
        # Nobody sends again what has arrived.
        if (guid, 202) not in history[:number]
    ]
    record = NOTHING
    for cut in (*sorted(cuts), len(log)):
        visible = [a for a in log[:cut] if a.at >= record.read_until]
        record = learnt(record, visible, EVENTS)
    assert sorted(record.missed, key=lambda one: one.guid) == sorted(
        learnt(NOTHING, log, EVENTS).missed, key=lambda one: one.guid
    )
    for one in record.missed:
        assert one.attempts == sum(a.guid == one.guid for a in log)


def test_attempt_that_appears_behind_newer_ones_is_not_overlooked() -> None:
    """An attempt stands in the log when it has ended, up to 10 s after it began."""
    record = learnt(NOTHING, [attempt(2, "b", 202, at=NOON + 9)], EVENTS)
    late = [attempt(2, "b", 202, at=NOON + 9), attempt(1, "a", 0, at=NOON)]
    assert [one.guid for one in learnt(record, late, EVENTS).missed] == ["a"]


def test_log_is_known_to_a_moment_before_its_newest_entry_and_never_less() -> None:
    record = learnt(NOTHING, [attempt(1, "a", 202, at=NOON)], EVENTS)
    assert record.read_until == NOON - OVERLAP
    assert learnt(record, [], EVENTS).read_until == record.read_until


def test_what_has_no_room_in_the_record_is_read_again_later() -> None:
    many = [attempt(n, f"g{n}", 0, at=NOON + n) for n in range(OPEN_LIMIT + 500)]
    record = learnt(NOTHING, many, EVENTS)
    assert len(record.missed) == OPEN_LIMIT
    assert record.read_until == many[OPEN_LIMIT].at
    assert len(record.model_dump_json()) < 900_000
    arrived = [attempt(10_000 + n, f"g{n}", 202, at=NOON + 9_000 + n) for n in range(OPEN_LIMIT)]
    rest = learnt(record, [*many, *arrived], EVENTS)
    assert {one.guid for one in rest.missed} == {a.guid for a in many[OPEN_LIMIT:]}


# --- when another attempt is due -------------------------------------------------------


def test_first_redelivery_waits_for_one_interval() -> None:
    assert guids(plan(missed(), now=NOON + MINUTE - 1)) == []
    assert guids(plan(missed(), now=NOON + MINUTE)) == ["a"]


@pytest.mark.parametrize("attempts", range(1, len(WAITS) + 4))
def test_waits_grow_with_the_attempts_that_failed(attempts: int) -> None:
    one = missed(attempts=attempts)
    wait = WAITS[min(attempts, len(WAITS)) - 1] * MINUTE
    assert guids(plan(one, now=NOON + wait - 1)) == []
    assert guids(plan(one, now=NOON + wait)) == ["a"]


def test_once_something_arrives_the_wait_is_short() -> None:
    one = missed(attempts=6)
    assert guids(plan(one, now=NOON + 6 * MINUTE)) == []
    assert guids(plan(one, now=NOON + 6 * MINUTE, arrived_at=NOON + 1)) == ["a"]
    assert guids(plan(one, now=NOON + 5 * MINUTE, arrived_at=NOON + 1)) == []


def test_what_was_asked_for_is_not_asked_for_again_before_it_can_be_in_the_log() -> None:
    first = plan(missed(), now=NOON + MINUTE)
    assert guids(planned(first.record, now=NOON + MINUTE + 1, interval=MINUTE, limit=9)) == []
    later = planned(first.record, now=NOON + 2 * MINUTE, interval=MINUTE, limit=9)
    assert guids(later) == ["a"]


def test_oldest_go_first_and_the_rest_next_time() -> None:
    many = [missed(guid=str(n), first_at=NOON - n) for n in range(5)]
    first = plan(*many, now=NOON + MINUTE, limit=2)
    assert guids(first) == ["4", "3"]
    assert guids(planned(first.record, now=NOON + MINUTE, interval=MINUTE, limit=2)) == ["2", "1"]


# --- when nothing more is tried --------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 415])
def test_what_ingest_would_refuse_again_is_given_up_at_once(status: int) -> None:
    [given_up] = plan(missed(status=status), now=NOON + MINUTE).given_up
    assert str(status) in given_up.reason


@pytest.mark.parametrize("status", [0, 401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_what_may_be_mended_is_not(status: int) -> None:
    found = plan(missed(status=status), now=NOON + MINUTE)
    assert (guids(found), found.given_up) == (["a"], ())


def test_after_three_days_or_enough_attempts_it_is_given_up() -> None:
    assert hopeless(missed(), NOON + RETENTION) == ""
    assert "3 days" in hopeless(missed(), NOON + RETENTION + 1)
    assert hopeless(missed(attempts=ATTEMPTS_LIMIT - 1), NOON) == ""
    assert "attempts failed" in hopeless(missed(attempts=ATTEMPTS_LIMIT), NOON)


def test_attempts_by_the_minute_last_for_most_of_the_three_days() -> None:
    waits = [WAITS[min(n, len(WAITS)) - 1] * MINUTE for n in range(1, ATTEMPTS_LIMIT)]
    assert 0.8 * RETENTION < sum(waits) <= RETENTION


def test_given_up_once_it_is_never_tried_and_never_told_again() -> None:
    log, record, told = [attempt(1, "a", 415)], NOTHING, []
    for look in range(4):
        known = learnt(record, log, EVENTS)
        plan = planned(known, now=NOON + look * MINUTE, interval=MINUTE, limit=9)
        assert plan.redeliver == ()
        told += [one.missed.guid for one in plan.given_up]
        record = plan.record
    assert told == ["a"]


def test_what_was_given_up_is_forgotten_when_the_log_is_read_beyond_it() -> None:
    record = Record(read_until=0, missed=(missed(given_up=True),))
    beyond = [attempt(9, "z", 202, at=NOON + OVERLAP + 1)]
    assert learnt(record, beyond, EVENTS).missed == ()
