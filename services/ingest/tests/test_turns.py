"""Shares of an installation, and what one person may ask, by themselves."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from patchwright_ingest.turns import NO_TURNS, NOTHING_ASKED, Shares, Turns

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHARES = Shares(repository=2, installation=3)


def turns(*repositories: int) -> Turns:
    """One job of each, in that order; a job is named after its place."""
    found = NO_TURNS
    for number, repository in enumerate(repositories):
        found = found.with_job(f"j{number}", repository)
    return found.advanced(SHARES)


def ready(found: Turns) -> list[str]:
    return [turn.job_id for turn in found.ready]


def test_noisy_repository_takes_its_share_and_lets_the_next_one_pass() -> None:
    assert ready(turns(7, 7, 7, 7, 8)) == ["j0", "j1", "j4"]


def test_installation_takes_its_share() -> None:
    assert ready(turns(1, 2, 3, 4)) == ["j0", "j1", "j2"]


def test_end_of_a_job_lets_the_oldest_that_may_go() -> None:
    found = turns(7, 7, 7, 8, 9).without(["j3"]).advanced(SHARES)
    assert ready(found) == ["j0", "j1", "j4"]
    assert ready(found.without(["j0"]).advanced(SHARES)) == ["j1", "j4", "j2"]


def test_same_job_again_changes_nothing() -> None:
    found = turns(7, 7, 7)
    for job in ("j0", "j2"):
        assert found.with_job(job, 7).advanced(SHARES) == found


@given(st.lists(st.integers(1, 4), max_size=30), st.randoms())
def test_everybody_has_a_turn_and_nobody_more_than_a_share(jobs: list[int], chance: object) -> None:
    found, ended = turns(*jobs), 0
    while found.ready:
        assert len(found.ready) <= SHARES.installation
        most = Counter(turn.repository_id for turn in found.ready).most_common(1)
        assert most[0][1] <= SHARES.repository
        gone = chance.choice(found.ready)  # type: ignore[attr-defined]
        found = found.without([gone.job_id]).advanced(SHARES)
        ended += 1
    assert found.waiting == ()
    assert ended == len(jobs)


def test_person_may_ask_so_often_within_an_hour() -> None:
    asked = NOTHING_ASKED
    for number in range(4):
        asked = asked.with_request(f"j{number}", NOON + timedelta(minutes=number), limit=3)
    assert [asked.admits(f"j{n}") for n in range(4)] == [True, True, True, False]
    later = asked.with_request("j4", NOON + timedelta(minutes=60), limit=3)
    assert later.admits("j4")
    assert len(later.admitted) == 3


def test_decision_about_a_request_stays_when_it_is_delivered_again() -> None:
    asked = NOTHING_ASKED.with_request("j0", NOON, limit=1).with_request("j1", NOON, limit=1)
    again = asked.with_request("j1", NOON, limit=5).with_request("j0", NOON, limit=0)
    assert again == asked


def test_request_that_comes_again_after_hours_is_not_refused_for_later_ones() -> None:
    asked = NOTHING_ASKED.with_request("j0", NOON, limit=2)
    for number in (1, 2):
        asked = asked.with_request(f"j{number}", NOON + timedelta(minutes=90 + number), limit=2)
    assert not any(request.job_id == "j0" for request in asked.admitted)
    assert asked.with_request("j0", NOON, limit=2).admits("j0")


def test_limit_of_nothing_is_none() -> None:
    asked = NOTHING_ASKED
    for number in range(100):
        asked = asked.with_request(f"j{number}", NOON, limit=0)
    assert asked.admits("j99")
