"""The register's decision: in any order of webhooks, what GitHub said last holds."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from patchwright_vault.register import FORGET_AFTER, Happened, Registered, after, happened

NOW = 2_000_000.0


def event(action: str, at: float | None, **more: Any) -> Happened:
    return Happened(
        action=action, at=at, installation_id=7, delivery_id=f"{action}-{at}-{more}", **more
    )


def told(*events: Happened) -> Registered:
    record: Registered | None = None
    for one in events:
        record = after(record, one, NOW)
    assert record is not None
    return record


STORY = (
    event("created", 10, account="ada", selection="selected", suspended=False, added={1, 2}),
    event("added", 20, account="ada", selection="selected", suspended=False, added={3}),
    event("suspend", 30, account="ada", selection="selected", suspended=True),
    event("removed", 40, account="ada", selection="selected", suspended=True, removed={2}),
    event("unsuspend", 50, account="ada", selection="all", suspended=False),
)


def test_order_of_deliveries_does_not_matter() -> None:
    for order in itertools.permutations(STORY):
        record = told(*order)
        assert (record.account, record.selection, record.suspended) == ("ada", "all", False)
        assert (set(record.repositories), set(record.removed)) == ({1, 3}, {2})
        assert record.at == 50


@pytest.mark.parametrize("late", STORY, ids=lambda late: late.action)
def test_late_delivery_does_not_bring_a_deleted_installation_back(late: Happened) -> None:
    record = told(*STORY, event("deleted", 60), late, event("created", 99, account="eve"))
    assert record == Registered(installation_id=7, deleted=True, at=60, deleted_at=NOW)


def test_deletion_that_comes_first_holds() -> None:
    assert told(event("deleted", 60), *STORY).deleted


def test_repeated_delivery_changes_nothing() -> None:
    """Also not where everything happened within one second."""
    suspend, back = event("suspend", 10, suspended=True), event("unsuspend", 10, suspended=False)
    assert not told(suspend, back).suspended
    assert not told(suspend, back, suspend).suspended
    assert told(suspend, back, event("suspend", 10, selection="x", suspended=True)).suspended


def test_suspension_shows_in_every_later_payload() -> None:
    assert told(event("created", 10), event("added", 20, suspended=True)).suspended
    assert not told(event("suspend", 10), event("added", 20, suspended=False)).suspended
    assert told(event("suspend", 10), event("added", 20)).suspended


def test_delivery_without_a_time_is_the_newest() -> None:
    record = told(event("created", 10), event("suspend", None))
    assert record.suspended
    assert record.at == 10


@pytest.mark.parametrize(
    ("updated", "at"),
    [
        ("2026-11-23T10:00:00Z", 1795428000.0),
        (1795428000, 1795428000.0),
        ("2026-11-23T10:00:00", None),
        ("yesterday", None),
        (None, None),
        (10**30, None),
        ({}, None),
    ],
)
def test_times_are_read_as_github_sends_them(updated: Any, at: float | None) -> None:
    body = json.dumps({"installation": {"id": 7, "account": {}, "updated_at": updated}}).encode()
    event = happened("created", "x", body)
    assert event is not None
    assert event.at == at


WHOLE = {"id": 7, "account": {"login": "ada"}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"installation": {}}',
        b'{"installation": {"id": -1, "account": {"login": "ada"}}}',
        *(
            json.dumps(body).encode()
            for body in (
                {"installation": {"id": 7, "node_id": "M"}},
                {"installation": {"id": 7, "account": None}},
                {"installation": WHOLE, "repository": {"id": 9}},
                {"installation": WHOLE, "issue": {"number": 1}},
                {"installation": WHOLE, "comment": {"id": 3}},
            )
        ),
    ],
)
def test_body_of_another_event_is_not_about_an_installation(body: bytes) -> None:
    """The header that says which event it is was not signed."""
    assert happened("deleted", "x", body) is None
    assert happened("deleted", "x", json.dumps({"installation": WHOLE}).encode())


def test_record_of_many_repositories_stays_small_enough_for_a_message() -> None:
    ids = [10**12 + number for number in range(20_000)]
    record = told(event("created", 1795428000.0, added=frozenset(ids)))
    assert len(record.model_dump_json()) < 500_000


def test_tombstones_outlive_every_delivery_that_may_still_come() -> None:
    assert FORGET_AFTER > 30 * 24 * 3600
