"""Which delivery begins an attempt and whose turn it is, whatever the order of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import ValidationError

from patchwright_common.claims import Outcome
from patchwright_ingest.attempts import EMPTY, NO_ATTEMPTS, Attempts, Queue, assign

START = datetime(2026, 1, 1, tzinfo=UTC)
IDS = st.sampled_from(["a", "b", "c", "d", "e"])
MINUTES = st.integers(0, 9)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def reported(minute: int | None) -> Outcome:
    when = None if minute is None else at(minute)
    return Outcome(kind="answer", sequence=1, reported_at=when)


RECORDS = st.lists(
    st.lists(IDS, min_size=1, unique=True).map(tuple), max_size=3
).map(lambda found: Attempts(deliveries=tuple(found)))  # fmt: skip
OUTCOMES = st.none() | (st.none() | MINUTES).map(reported)
CIRCUMSTANCES = st.fixed_dictionaries(
    {"at": MINUTES.map(at), "replay": st.booleans(), "latest": OUTCOMES}
)


def test_first_delivery_begins_the_first_attempt() -> None:
    assert assign(NO_ATTEMPTS, "a", at=START, replay=False, latest=None).of("a") == 1


def test_second_delivery_joins_while_the_job_is_open() -> None:
    first = Attempts(deliveries=(("a",),))
    for latest in (None, reported(None)):
        assert assign(first, "b", at=at(9), replay=False, latest=latest).of("b") == 1


def test_delivery_about_what_was_asked_before_the_result_joins() -> None:
    first = Attempts(deliveries=(("a",),))
    for minute in (4, 5):
        joined = assign(first, "b", at=at(minute), replay=False, latest=reported(5))
        assert joined.deliveries == (("a", "b"),)


def test_asking_again_after_a_stop_need_not_wait_until_the_stop_is_visible() -> None:
    first = Attempts(deliveries=(("a",),))
    cancelled = Outcome(kind="cancelled", sequence=1)
    for latest in (None, cancelled, cancelled.model_copy(update={"reported_at": at(9)})):
        for minute, attempt in ((4, 1), (5, 1), (6, 2)):
            again = assign(first, "b", at=at(minute), replay=False, latest=latest, stopped_at=at(5))
            assert again.of("b") == attempt, (latest, minute)


def test_stop_that_came_after_another_decision_begins_no_attempt() -> None:
    first = Attempts(deliveries=(("a",),))
    joined = assign(first, "b", at=at(6), replay=False, latest=reported(None), stopped_at=at(5))
    assert joined.of("b") == 1


def test_asking_again_after_the_result_begins_another_attempt() -> None:
    first = Attempts(deliveries=(("a",),))
    assert assign(first, "b", at=at(6), replay=False, latest=reported(5)).of("b") == 2


def test_replay_begins_an_attempt_even_while_the_job_is_open() -> None:
    first = Attempts(deliveries=(("a",),))
    second = assign(first, "replay-1", at=at(0), replay=True, latest=None)
    assert second.of("replay-1") == 2
    assert assign(second, "replay-1", at=at(0), replay=True, latest=None) == second


@given(RECORDS, IDS, CIRCUMSTANCES)
def test_delivery_is_counted_and_nothing_is_forgotten(
    before: Attempts, delivery: str, circumstances: dict[str, Any]
) -> None:
    after = assign(before, delivery, **circumstances)
    assert after.of(delivery)
    for number, seen in enumerate(before.deliveries, start=1):
        assert set(seen) <= set(after.deliveries[number - 1])
    assert len(after.deliveries) - len(before.deliveries) in (0, 1)


@given(RECORDS, IDS, CIRCUMSTANCES, CIRCUMSTANCES)
def test_redelivery_never_makes_a_new_attempt(
    before: Attempts, delivery: str, first: dict[str, Any], later: dict[str, Any]
) -> None:
    record = assign(before, delivery, **first)
    assert assign(record, delivery, **later) == record


@given(RECORDS, st.lists(IDS.map("replay-{}".format), max_size=12), OUTCOMES)
def test_each_replay_id_makes_exactly_one_attempt(
    before: Attempts, replays: list[str], latest: Outcome | None
) -> None:
    record = before
    for replay in replays:
        record = assign(record, replay, at=START, replay=True, latest=latest)
    assert len(record.deliveries) == len(before.deliveries) + len(set(replays))


@given(RECORDS)
def test_record_is_read_back_as_it_was_written(record: Attempts) -> None:
    assert Attempts.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("kind", [Attempts, Queue])
def test_answer_of_the_server_is_no_empty_record(kind: type[Attempts | Queue]) -> None:
    """Every service can let the server write one to any key."""
    answer = b'{"type":"io.nats.jetstream.api.v1.stream_info_response","total":0,"state":{}}'
    with pytest.raises(ValidationError):
        kind.model_validate_json(answer)


def test_records_of_older_versions_are_read() -> None:
    queue = Queue.model_validate_json(b'{"waiting":["7-1-issue-1"],"finished":[]}')
    assert queue == Queue(waiting=("7-1-issue-1",), finished=())
    assert Queue.model_validate_json(b'{"waiting":[],"finished":[]}') == EMPTY
    assert Attempts.model_validate_json(b'{"deliveries":[["a"]]}').of("a") == 1


class AnIssuesQueue(RuleBasedStateMachine):
    """Jobs are requested and finished in any order, and every message may come again."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = EMPTY
        self.order: list[str] = []
        self.done: set[str] = set()

    @rule(job=IDS)
    def request(self, job: str) -> None:
        self.queue = self.queue.with_job(job)
        if job not in self.order:
            self.order.append(job)

    @rule(job=IDS)
    def finish(self, job: str) -> None:
        self.queue = self.queue.without_job(job)
        self.done.add(job)

    @rule()
    def restart(self) -> None:
        self.queue = Queue.model_validate_json(self.queue.model_dump_json())

    @invariant()
    def every_open_job_waits_once_and_in_order(self) -> None:
        waiting = [job for job in self.order if job not in self.done]
        assert list(self.queue.waiting) == waiting
        assert self.queue.head == (waiting[0] if waiting else None)

    @invariant()
    def finished_jobs_are_listed_once(self) -> None:
        assert sorted(self.queue.finished) == sorted(self.done)


TestAnIssuesQueue = AnIssuesQueue.TestCase
