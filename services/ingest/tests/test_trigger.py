"""What asks for a job, decided on payloads as the GitHub stand-in delivers them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_common.errors import Permanent
from patchwright_ingest.mention import Mention
from patchwright_ingest.trigger import Ignored, Trigger, find, read

Payload = dict[str, Any]
Examples = dict[str, Payload]
MENTION = Mention("patchwright")


def decide(event: str, payload: Payload) -> Trigger | Ignored:
    return find(event, read(json.dumps(payload).encode()), mention=MENTION)


def changed(payload: Payload, **at: Any) -> Payload:
    """A copy with `issue__state="closed"` and the like."""
    made = copy.deepcopy(payload)
    for path, value in at.items():
        *parents, last = path.split("__")
        place = made
        for name in parents:
            place = place[name]
        place[last] = value
    return made


def commented(examples: Examples, text: str, **at: Any) -> Payload:
    return changed(examples["issue_comment.created"], comment__body=text, **at)


def test_label_asks(examples: Examples) -> None:
    payload = examples["issues.labeled"]
    trigger = decide("issues", payload)
    assert isinstance(trigger, Trigger)
    assert trigger.key == f"{payload['repository']['id']}-1-issue"
    assert trigger.request == ""
    assert trigger.at.isoformat().replace("+00:00", "Z") == payload["issue"]["updated_at"]


def test_labels_name_is_compared_without_case(examples: Examples) -> None:
    payload = changed(examples["issues.labeled"], label__name="PatchWright")
    assert isinstance(decide("issues", payload), Trigger)


@pytest.mark.parametrize("name", ["bug", "patchwright-later", "", "patch wright"])
def test_another_label_asks_for_nothing(examples: Examples, name: str) -> None:
    payload = changed(examples["issues.labeled"], label__name=name)
    assert isinstance(decide("issues", payload), Ignored)


def test_label_that_is_named_by_the_settings_asks(examples: Examples) -> None:
    payload = read(json.dumps(examples["issues.labeled"]).encode())
    assert isinstance(find("issues", payload, mention=MENTION, label="fix-it"), Ignored)


def test_new_issue_asks_by_a_mention_in_title_or_body(examples: Examples) -> None:
    opened = examples["issues.opened"]
    assert isinstance(decide("issues", opened), Ignored)
    for place in ("issue__title", "issue__body"):
        trigger = decide("issues", changed(opened, **{place: "@patchwright fix this"}))
        assert isinstance(trigger, Trigger)
        assert trigger.key.endswith("-1-issue")


def test_issue_that_is_opened_with_label_and_mention_is_one_trigger(examples: Examples) -> None:
    opened = decide("issues", changed(examples["issues.opened"], issue__body="@patchwright"))
    labeled = decide("issues", changed(examples["issues.labeled"], issue__body="@patchwright"))
    assert isinstance(opened, Trigger)
    assert isinstance(labeled, Trigger)
    assert opened.key == labeled.key


def test_title_alone_does_not_continue_into_the_body(examples: Examples) -> None:
    payload = changed(examples["issues.opened"], issue__title="```", issue__body="@patchwright")
    assert isinstance(decide("issues", payload), Trigger)


def test_comment_asks_by_a_mention_and_is_the_request(examples: Examples) -> None:
    text = "@patchwright fix the rounding, too"
    payload = commented(examples, text)
    trigger = decide("issue_comment", payload)
    assert isinstance(trigger, Trigger)
    assert trigger.request == text
    repository, comment = payload["repository"]["id"], payload["comment"]["id"]
    assert trigger.key == f"{repository}-1-c{comment}"


def test_comment_without_a_mention_asks_for_nothing(examples: Examples) -> None:
    for text in ("Please look", "`@patchwright`", "> @patchwright", "me@patchwright.example", ""):
        assert isinstance(decide("issue_comment", commented(examples, text)), Ignored)
    without = changed(examples["issue_comment.created"], comment__body=None)
    assert isinstance(decide("issue_comment", without), Ignored)


def test_edited_or_deleted_comment_asks_for_nothing(examples: Examples) -> None:
    edited = examples["issue_comment.edited"]
    assert "@patchwright" in edited["comment"]["body"]
    assert isinstance(decide("issue_comment", edited), Ignored)
    deleted = commented(examples, "@patchwright", action="deleted")
    assert isinstance(decide("issue_comment", deleted), Ignored)


def test_comment_event_without_a_comment_asks_for_nothing(examples: Examples) -> None:
    assert isinstance(decide("issue_comment", commented(examples, "", comment=None)), Ignored)


@pytest.mark.parametrize(
    "action",
    ["edited", "closed", "reopened", "unlabeled", "assigned", "deleted", "transferred", "new_one"],
)
def test_other_actions_ask_for_nothing(examples: Examples, action: str) -> None:
    payload = changed(examples["issues.labeled"], action=action, issue__body="@patchwright")
    assert isinstance(decide("issues", payload), Ignored)


def test_bots_ask_for_nothing(examples: Examples) -> None:
    """Least of all the App itself, whose comments quote what it was asked."""
    for event, payload in (
        ("issues", examples["issues.labeled"]),
        ("issue_comment", commented(examples, "@patchwright")),
    ):
        assert isinstance(decide(event, payload), Trigger)
        assert isinstance(decide(event, changed(payload, sender__type="Bot")), Ignored)


def test_closed_issues_ask_for_nothing(examples: Examples) -> None:
    assert examples["issues.closed"]["issue"]["state"] == "closed"
    for event, payload in (
        ("issues", changed(examples["issues.labeled"], issue__state="closed")),
        ("issue_comment", commented(examples, "@patchwright", issue__state="closed")),
    ):
        assert isinstance(decide(event, payload), Ignored)


def test_comment_on_a_pull_request_asks_for_nothing(examples: Examples) -> None:
    payload = examples["pull_comment"]
    assert "@patchwright" in payload["comment"]["body"]
    found = decide("issue_comment", payload)
    assert isinstance(found, Ignored)
    assert "pull request" in found.reason


def test_every_delivered_payload_can_be_read(examples: Examples) -> None:
    for kind, payload in examples.items():
        if kind.startswith(("issues.", "issue_comment.")):
            read(json.dumps(payload | {"a_field_of_tomorrow": [1]}).encode())


def test_ghosts_are_no_reason_to_fail(examples: Examples) -> None:
    """GitHub answers null for the author whose account is gone."""
    payload = commented(examples, "@patchwright", issue__user=None, comment__user=None)
    assert isinstance(decide("issue_comment", payload), Trigger)


WRONG: dict[str, dict[str, Any]] = {
    "no installation": {"installation": None},
    "no sender": {"sender": None},
    "a number of text": {"issue__number": "one"},
    "a negative number": {"issue__number": -1},
    "an endless id": {"repository__id": 2**64},
    "a name that is a path": {"repository__full_name": "a/b/../../orgs/c"},
    "a name with a query": {"repository__full_name": "a/b?x=1"},
    "a time without a zone": {"issue__updated_at": "2026-01-01T00:00:00"},
    "no time": {"issue__created_at": "soon"},
}


@pytest.mark.parametrize("at", WRONG.values(), ids=WRONG)
def test_payload_that_github_would_not_send_is_a_dead_letter(
    examples: Examples, at: dict[str, Any]
) -> None:
    payload = changed(examples["issues.labeled"], **at)
    with pytest.raises(Permanent) as refused:
        read(json.dumps(payload).encode())
    field = next(iter(at)).replace("__", ".")
    assert field in refused.value.reason
    assert "a/b" not in refused.value.reason


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode))
def test_nothing_else_than_a_payload_is_read(body: bytes) -> None:
    with pytest.raises(Permanent):
        read(body)
