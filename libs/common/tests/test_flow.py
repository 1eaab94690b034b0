"""The map itself: names that NATS takes, subjects that fit, policies that end."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_common import events, flow
from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    EgressAllowed,
    EgressEnded,
    EgressRefused,
    Event,
    FileChanged,
    GrantGiven,
    GrantRefused,
    HostContacted,
    HostRefused,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobProgressed,
    JobReadied,
    JobStarted,
    Spent,
)

from .handling import JOB, requested

SPENT = Spent(turns=3, input_tokens=1000, output_tokens=50, dollars=0.01, seconds=2.5)
EXAMPLES: dict[str, Event] = {
    "JOB_REQUESTED": requested(),
    "JOB_READIED": JobReadied(job_id=JOB),
    "JOB_STARTED": JobStarted(job_id=JOB, epoch=1, runner="r-1", sandbox="docker"),
    "JOB_PROGRESSED": JobProgressed(job_id=JOB, epoch=1, turn=2, doing="ran ls", spent=SPENT),
    "CHANGE_PRODUCED": ChangeProduced(
        job_id=JOB,
        epoch=1,
        bundle_sha256="ab" * 32,
        bundle_bytes=900,
        commit="c" * 40,
        base="b" * 40,
        files=(FileChanged(path="é.py", status="M", additions=1, deletions=2),),
        summary="Done.",
        model="claude",
        spent=SPENT,
    ),
    "ANSWER_PRODUCED": AnswerProduced(job_id=JOB, epoch=1, answer="42", model="m", spent=SPENT),
    "JOB_FAILED": JobFailed(job_id=JOB, stage="runner-job-readied", reason="No.", sequence=4),
    "JOB_CANCELLED": JobCancelled(job_id=JOB, by="ada", cause="stopped", at="2026-11-28T12:00:00Z"),
    "JOB_FINISHED": JobFinished(job_id=JOB, result="answer", url="https://github.test/1"),
    "GRANT_GIVEN": GrantGiven(
        job_id=JOB,
        caller="runner",
        verb="token",
        repository_id=7,
        permissions={"contents": "read"},
        fingerprint="0123456789ab",
    ),
    "GRANT_REFUSED": GrantRefused(job_id="none", caller="setup", verb="token", reason="No."),
    "EGRESS_ALLOWED": EgressAllowed(
        job_id=JOB, epoch=1, purpose="set-up", host="pypi.org", port=443
    ),
    "EGRESS_REFUSED": EgressRefused(
        job_id=JOB, epoch=1, purpose="agent", host="evil.example", port=443, reason="No."
    ),
    "EGRESS_ENDED": EgressEnded(
        job_id=JOB,
        epoch=1,
        allowed=(
            HostContacted(
                purpose="set-up",
                host="pypi.org",
                port=443,
                connections=2,
                bytes_up=900,
                bytes_down=30_000,
            ),
        ),
        refused=(
            HostRefused(purpose="agent", host="evil.example", port=443, reason="No.", times=3),
        ),
        unlisted=1,
    ),
}
EVENT_ROUTES = [route for route in flow.ROUTES if route.payload]
TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)


def test_names_follow_the_servers_advice() -> None:
    names = [consumer.name for consumer in flow.consumers()]
    assert len(set(names)) == len(names)
    for consumer in flow.consumers():
        assert re.fullmatch(r"[a-z]+-[a-z]+-[a-z]+", consumer.name)
        assert len(consumer.name) < 32
        assert consumer.name.startswith(f"{consumer.service}-")
    for name in [s.name for s in flow.STREAMS] + [b.name for b in flow.BUCKETS]:
        assert re.fullmatch(r"PW_[A-Z]+", name)
        assert len(name) < 32


def test_who_shares_a_stream_can_see_whose_message_an_id_belongs_to() -> None:
    for stream in flow.STREAMS:
        several = flow.writers(stream) if len(flow.writers(stream)) > 1 else set()
        assert several <= set(stream.readers), stream.name


def test_name_of_a_consumer_tells_its_service_entity_and_verb() -> None:
    for consumer in flow.consumers():
        route = flow.route_of(consumer)
        if route.stream is flow.PW_EVENTS:
            what = route.prefix.removeprefix("pw.evt.").replace(".", "-")
            assert consumer.name == f"{consumer.service}-{what}"


def test_consumers_subjects_lie_inside_their_route_and_stream() -> None:
    for consumer in flow.consumers():
        route = flow.route_of(consumer)
        for subject in consumer.subjects:
            assert subject.startswith(f"{route.prefix}.")
            assert any(subject.startswith(s.removesuffix(">")) for s in route.stream.subjects)


def test_routes_lie_inside_their_streams_and_are_told_apart() -> None:
    assert len({route.name for route in flow.ROUTES}) == len(flow.ROUTES)
    assert len({route.prefix for route in flow.ROUTES}) == len(flow.ROUTES)
    for route in flow.ROUTES:
        assert any(route.prefix.startswith(s.removesuffix(".>")) for s in route.stream.subjects)
        assert getattr(flow, route.name) is route


def test_every_event_has_a_route() -> None:
    declared = {route.payload for route in EVENT_ROUTES}
    assert declared == {
        kind for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    }  # fmt: skip


@pytest.mark.parametrize("route", EVENT_ROUTES, ids=lambda route: route.name)
def test_payload_comes_back_as_it_was_sent(route: flow.Route) -> None:
    event = EXAMPLES[route.name]
    assert type(event) is route.payload
    assert type(event).model_validate_json(event.model_dump_json()) == event


@given(st.tuples(TOKENS, TOKENS, TOKENS))
def test_subject_is_the_prefix_and_its_tokens(tokens: tuple[str, str, str]) -> None:
    subject = flow.DELIVERY_RECEIVED.subject(*tokens)
    assert subject.split(".") == ["pw", "github", *tokens]


@given(st.text().filter(lambda token: not re.fullmatch(r"[A-Za-z0-9_-]+", token, re.ASCII)))
def test_token_that_nats_would_misread_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="not a subject token"):
        flow.JOB_READIED.subject(token)


@pytest.mark.parametrize(
    "token", ["", ".", "a.b", "a b", "*", ">", "a*", "\t", "a\n", "é", "\uff17", "a\x00"]
)
def test_dots_spaces_wildcards_and_nothing_are_refused(token: str) -> None:
    with pytest.raises(ValueError, match="not a subject token"):
        flow.DELIVERY_RECEIVED.subject("issues", token, "7")


@pytest.mark.parametrize("tokens", [(), ("a", "b")])
def test_wrong_number_of_tokens_is_refused(tokens: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="JOB_READIED takes <job_id>"):
        flow.JOB_READIED.subject(*tokens)


def test_consumers_job_gets_a_dead_letter_of_its_own() -> None:
    for consumer in flow.consumers():
        subject = flow.DEAD_LETTER.subject(*consumer.name.split("-", 2), JOB)
        assert subject == f"pw.dlq.{consumer.name.replace('-', '.')}.{JOB}"


@given(
    st.lists(st.floats(0, 1000), min_size=1, max_size=9).map(tuple),
    st.integers(-3, 10_000),
)
def test_policy_always_has_a_delay(delays: tuple[float, ...], delivered: int) -> None:
    policy = flow.RetryPolicy("any", delays, limit=None)
    expected = delays[-1] if delivered > len(delays) else delays[max(delivered, 1) - 1]
    assert policy.delay(delivered) == expected


def test_patience_lasts_about_an_hour_and_grows() -> None:
    assert flow.PATIENT.limit is not None
    waits = [flow.PATIENT.delay(n) for n in range(1, flow.PATIENT.limit)]
    assert waits == sorted(waits)
    assert 45 * 60 < sum(waits) < 75 * 60


def test_failure_to_report_and_requests_are_tried_for_ever() -> None:
    endless = {c.name for c in flow.consumers() if c.policy.limit is None}
    assert endless >= {"publisher-job-failed", "triage-delivery-received", "triage-job-requested"}


def test_whoever_gives_up_may_send_the_dead_letter_and_the_failure() -> None:
    for consumer in flow.consumers():
        assert consumer.service in flow.DEAD_LETTER.producers
        if consumer.policy.tells_user and consumer.policy.limit:
            assert consumer.service in flow.JOB_FAILED.producers


def test_handlers_heart_beats_well_within_its_wait() -> None:
    for consumer in flow.consumers():
        assert 5 <= consumer.ack_wait < consumer.time_limit


def test_consumers_of_one_service_are_found() -> None:
    assert {c.service for c in flow.consumers()} == {"triage", "runner", "publisher", "vault"}
    assert [c.name for c in flow.consumers("runner")] == ["runner-job-readied"]
    assert list(flow.consumers("ingest")) == []


def test_table_shows_every_route_and_consumer_on_one_line_each() -> None:
    lines = flow.table().splitlines()
    assert len(lines) == 2 + len(flow.ROUTES)
    assert {line.count("|") for line in lines} == {6}
    for consumer in flow.consumers():
        assert f"`{consumer.name}`: {consumer.about}, {consumer.policy.name}" in flow.table()
