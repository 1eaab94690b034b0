"""Token buckets, by themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_ingest.rates import Buckets, Rate, source


def test_burst_then_the_rate() -> None:
    buckets = Buckets(Rate(per_second=2, burst=3))
    assert [buckets.take("a", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("a", 0.4) == pytest.approx(0.1)
    assert buckets.take("a", 0.5) == 0


def test_senders_do_not_share_a_bucket() -> None:
    buckets = Buckets(Rate(1, 1))
    assert buckets.take("a", 0.0) == 0
    assert buckets.take("b", 0.0) == 0
    assert buckets.take("a", 0.0) > 0


def test_what_is_given_back_was_never_taken() -> None:
    buckets = Buckets(Rate(1, 2))
    for _ in range(100):
        assert buckets.take("a", 0.0) == 0
        buckets.give_back("a", 0.0)
    assert [buckets.take("a", 0.0) for _ in range(3)] == [0, 0, 1]


def test_rate_of_nothing_is_no_limit() -> None:
    buckets = Buckets(Rate(0, 1))
    assert {buckets.take("a", 0.0) for _ in range(1000)} == {0.0}


def test_clock_that_goes_back_gives_nothing() -> None:
    buckets = Buckets(Rate(1, 1))
    buckets.take("a", 100.0)
    assert buckets.take("a", 0.0) > 0


def test_memory_is_bounded_and_the_quietest_is_forgotten() -> None:
    buckets = Buckets(Rate(1, 1), keys=2)
    for who in ("a", "b", "a", "c"):
        buckets.take(who, 0.0)
    assert len(buckets._levels) == 2
    assert buckets.take("a", 0.0) > 0


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_never_more_than_burst_and_rate_allow(pauses: list[float]) -> None:
    rate, now, taken = Rate(3, 5), 0.0, 0
    buckets = Buckets(rate)
    for pause in pauses:
        now += pause
        taken += buckets.take("a", now) == 0
    assert taken <= rate.burst + rate.per_second * now + 1e-6


@pytest.mark.parametrize(
    ("host", "who"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        (None, "unknown"),
        ("testclient", "testclient"),
    ],
)
def test_source_is_an_address_or_a_network(host: str | None, who: str) -> None:
    assert source(host) == who
