"""What stops jobs and which ones, decided on payloads as the GitHub stand-in delivers them."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from patchwright_ingest.mention import Mention
from patchwright_ingest.stop import Stop, Stopped, find_stop, keys_of
from patchwright_ingest.trigger import Ignored, find, read

Payload = dict[str, Any]
Examples = dict[str, Payload]
MENTION = Mention("patchwright")
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
STOP = "@patchwright stop"


def decide(event: str, payload: Payload) -> Stopped | Ignored:
    return find_stop(event, read(json.dumps(payload).encode()), mention=MENTION)


def said(examples: Examples, text: str) -> Payload:
    payload = copy.deepcopy(examples["issue_comment.created"])
    payload["comment"]["body"] = text
    return payload


def test_comment_that_says_stop_stops_the_issue(examples: Examples) -> None:
    payload = said(examples, STOP)
    found = decide("issue_comment", payload)
    assert isinstance(found, Stopped)
    assert found.key == f"stop.{payload['repository']['id']}-1"
    assert found.by_word, "its author must be allowed to write"
    assert (found.stop.by, found.stop.cause) == ("ada", "stopped")
    assert found.stop.comment_id == payload["comment"]["id"]
    assert found.stop.at.isoformat().replace("+00:00", "Z") == payload["comment"]["created_at"]


def test_comment_that_says_stop_is_no_request(examples: Examples) -> None:
    payload = read(json.dumps(said(examples, STOP)).encode())
    assert isinstance(find("issue_comment", payload, mention=MENTION), Ignored)


@pytest.mark.parametrize("text", ["@patchwright please fix", "stop", "`@patchwright stop`", None])
def test_other_comments_stop_nothing(examples: Examples, text: str) -> None:
    assert isinstance(decide("issue_comment", said(examples, text)), Ignored)


def test_no_text_of_the_issue_stops_anything(examples: Examples) -> None:
    for kind in ("issues.labeled", "issues.opened", "issue_comment.created"):
        payload = copy.deepcopy(examples[kind])
        payload["issue"]["title"] = payload["issue"]["body"] = STOP
        assert isinstance(decide(kind.partition(".")[0], payload), Ignored)


def test_comment_that_was_edited_into_a_stop_stops_nothing(examples: Examples) -> None:
    payload = copy.deepcopy(examples["issue_comment.edited"])
    payload["comment"]["body"] = STOP
    assert isinstance(decide("issue_comment", payload), Ignored)


def test_bot_cannot_say_stop(examples: Examples) -> None:
    payload = said(examples, STOP)
    payload["sender"]["type"] = "Bot"
    assert isinstance(decide("issue_comment", payload), Ignored)


def test_stop_on_a_closed_issue_counts(examples: Examples) -> None:
    payload = said(examples, STOP)
    payload["issue"]["state"] = "closed"
    assert isinstance(decide("issue_comment", payload), Stopped)


def test_pull_requests_have_no_jobs_to_stop(examples: Examples) -> None:
    payload = copy.deepcopy(examples["pull_comment"])
    payload["comment"]["body"] = STOP
    assert isinstance(decide("issue_comment", payload), Ignored)


def test_closing_stops_the_issue_whoever_did_it(examples: Examples) -> None:
    payload = copy.deepcopy(examples["issues.closed"])
    payload["sender"]["type"] = "Bot"
    payload["issue"]["updated_at"] = "2099-01-01T00:00:00Z"
    found = decide("issues", payload)
    assert isinstance(found, Stopped)
    assert found.stop.cause == "closed"
    assert not found.by_word
    assert found.stop.at.isoformat().replace("+00:00", "Z") == payload["issue"]["closed_at"]


def test_deleting_the_issue_stops_it(examples: Examples) -> None:
    payload = copy.deepcopy(examples["issues.labeled"]) | {"action": "deleted"}
    found = decide("issues", payload)
    assert isinstance(found, Stopped)
    assert (found.stop.cause, found.by_word) == ("issue_deleted", False)


@pytest.mark.parametrize("action", ["reopened", "edited", "unlabeled", "assigned", "opened"])
def test_other_things_that_happen_to_an_issue_stop_nothing(examples: Examples, action: str) -> None:
    payload = copy.deepcopy(examples["issues.labeled"]) | {"action": action}
    assert isinstance(decide("issues", payload), Ignored)


def test_deleting_a_comment_stops_what_it_asked_for_and_nothing_else(examples: Examples) -> None:
    """Whatever its text is by now."""
    payload = said(examples, "never mind") | {"action": "deleted"}
    found = decide("issue_comment", payload)
    assert isinstance(found, Stopped)
    trigger = f"{payload['repository']['id']}-1-c{payload['comment']['id']}"
    assert found.key == f"stop.{trigger}"
    assert found.key in keys_of(f"{trigger}-1")
    assert found.key not in keys_of(f"{trigger}0-1")
    assert found.key not in keys_of(f"{payload['repository']['id']}-1-issue-1")
    assert found.stop.covers(f"{trigger}-1", read(json.dumps(payload).encode()).comment.created_at)  # type: ignore[union-attr]


def test_deleting_a_comment_of_ours_stops_nothing(examples: Examples) -> None:
    payload = said(examples, "### On it") | {"action": "deleted"}
    payload["comment"]["user"]["type"] = "Bot"
    assert isinstance(decide("issue_comment", payload), Ignored)


@pytest.mark.parametrize("kind", ["issue-1", "c99-1", "issue-12", "c5-3"])
def test_stop_of_the_issue_is_found_from_each_of_its_jobs(kind: str) -> None:
    issue, trigger = keys_of(f"7-2-{kind}")
    assert issue == "stop.7-2"
    assert trigger == f"stop.7-2-{kind.rpartition('-')[0]}"


def test_stop_covers_what_was_asked_before_it() -> None:
    stop = Stop(by="ada", cause="stopped", at=NOON, comment_id=50)
    second = timedelta(seconds=1)
    assert stop.covers("7-2-issue-1", NOON - second)
    assert stop.covers("7-2-issue-1", NOON)
    assert not stop.covers("7-2-issue-1", NOON + second)


def test_in_the_same_second_the_comments_ids_tell_which_was_first() -> None:
    stop = Stop(by="ada", cause="stopped", at=NOON, comment_id=50)
    assert stop.covers("7-2-c49-1", NOON)
    assert not stop.covers("7-2-c51-1", NOON)
    closed = Stop(by="ada", cause="closed", at=NOON)
    assert closed.covers("7-2-c51-1", NOON)


STOPS = st.builds(
    Stop,
    by=st.sampled_from("ab"),
    cause=st.just("stopped"),
    at=st.integers(0, 3).map(lambda seconds: NOON + timedelta(seconds=seconds)),
    comment_id=st.integers(0, 3),
)


@example(
    Stop(by="a", cause="closed", at=NOON),
    Stop(by="a", cause="stopped", at=NOON, comment_id=3),
    0,
    4,
)
@given(STOPS, STOPS, st.integers(0, 4), st.integers(0, 4))
def test_record_of_two_stops_covers_what_either_does_in_any_order(
    one: Stop, other: Stop, seconds: int, comment: int
) -> None:
    asked = NOON + timedelta(seconds=seconds)
    for job_id in ("7-2-issue-1", f"7-2-c{comment}-1"):
        either = one.covers(job_id, asked) or other.covers(job_id, asked)
        for first, second in ((one, other), (other, one)):
            assert second.after(first.after(None)).covers(job_id, asked) == either
