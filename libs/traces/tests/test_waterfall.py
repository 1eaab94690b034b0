"""Where each span's row and bar go."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_traces.formats import ago, duration, iso, round_duration
from patchwright_traces.spans import Link, Process, Span, Tag
from patchwright_traces.timeline import Timeline, lay_out

SECOND = 10**9


def span(
    name: str,
    parent: str | None = None,
    start: float = 0,
    end: float = 1,
    *,
    kind: str = "internal",
    tags: tuple[Tag, ...] = (),
    links: tuple[Link, ...] = (),
) -> Span:
    return Span(
        trace_id="t",
        span_id=name,
        parent_id=parent,
        name=name,
        kind=kind,
        start_ns=round((1000 + start) * SECOND),
        end_ns=round((1000 + end) * SECOND),
        status="UNSET",
        status_message="",
        process=Process("runner", ()),
        tags=tags,
        links=links,
    )


def outline(timeline: Timeline) -> list[str]:
    return ["  " * row.depth + row.span.name for row in timeline.rows]


def test_children_follow_their_parent_by_their_start() -> None:
    spans = [
        span("b", "root", 5, 6),
        span("a1", "a", 2, 3),
        span("root", None, 0, 9),
        span("a", "root", 1, 4),
    ]

    assert outline(lay_out(spans)) == ["root", "  a", "    a1", "  b"]


def test_the_order_of_arrival_does_not_matter() -> None:
    spans = [span("root"), *(span(f"s{n}", f"s{n // 2}" if n > 1 else "root") for n in range(40))]
    expected = outline(lay_out(spans))
    random.Random(7).shuffle(spans)  # noqa: S311 - a fixed shuffle

    assert outline(lay_out(spans)) == expected


def test_a_span_without_its_parent_stands_at_the_root_with_a_note() -> None:
    timeline = lay_out([span("child", "lost"), span("grandchild", "child")])

    assert outline(timeline) == ["child", "  grandchild"]
    assert [row.note for row in timeline.rows] == ["orphan", ""]


def test_spans_in_a_loop_are_still_shown() -> None:
    timeline = lay_out([span("a", "b"), span("b", "a"), span("self", "self")])

    assert sorted(row.span.name for row in timeline.rows) == ["a", "b", "self"]
    assert "loop" in [row.note for row in timeline.rows]


def test_a_trace_may_be_thousands_deep() -> None:
    spans = [span(str(n), str(n - 1) if n else None) for n in range(5_000)]

    assert [row.depth for row in lay_out(spans).rows] == list(range(5_000))


def test_bars_lie_where_their_times_are() -> None:
    timeline = lay_out([span("root", None, 0, 10), span("child", "root", 2.5, 5)])

    child = timeline.rows[1]
    assert (child.bar.left, child.bar.width) == (25, 25)
    assert child.offset_ns == 2.5 * SECOND


@pytest.mark.parametrize(
    "consumer",
    [
        span("take", "send", 3, 4, kind="consumer"),
        span("take", "send", 3, 4, tags=(Tag("messaging.operation.type", "string", "process"),)),
        span("take", None, 3, 4, kind="consumer", links=(Link("t", "send", ()),)),
    ],
)
def test_the_time_in_a_queue_is_a_bar_of_its_own(consumer: Span) -> None:
    timeline = lay_out([span("send", None, 0, 1, kind="producer"), consumer])

    (wait,) = [row.wait for row in timeline.rows if row.wait]
    assert (wait.left, wait.width, wait.duration_ns) == (25, 50, 2 * SECOND)
    assert timeline.waiting_ns == 2 * SECOND


def test_a_later_child_that_consumes_nothing_did_not_wait() -> None:
    timeline = lay_out([span("root", None, 0, 1), span("later", "root", 3, 4)])

    assert timeline.waiting_ns == 0


def test_a_single_instant_can_be_drawn() -> None:
    timeline = lay_out([span("now", None, 0, 0)])

    assert (timeline.rows[0].bar.width, timeline.duration_ns) == (0, 0)
    assert [tick.left for tick in timeline.ticks] == [0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**62)), min_size=1))
def test_every_span_gets_one_row_inside_the_axis(shape: list[tuple[int, int, int]]) -> None:
    spans = {str(own): span(str(own), str(up), 0, at / SECOND) for own, up, at in shape}

    timeline = lay_out(list(spans.values()))

    assert sorted(row.span.name for row in timeline.rows) == sorted(spans)
    assert all(row.bar.left >= 0 and row.bar.right <= 100.0001 for row in timeline.rows)


@given(st.integers(1, 2**62))
def test_an_axis_has_a_few_round_ticks(length: int) -> None:
    ticks = lay_out([span("x", None, 0, length / SECOND)]).ticks

    assert 1 <= len(ticks) <= 12
    assert all(0 <= tick.left <= 100 for tick in ticks)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0"), (-5, "0"), (7, "7 ns"), (999, "999 ns"), (1_500, "1.50 µs"), (999_999, "1.00 ms"),
        (12_345_678, "12.3 ms"), (999_400_000, "999 ms"), (4_214_000_000, "4.21 s"),
        (59_940_000_000, "59.9 s"), (59_999_000_000, "1m 00s"), (125 * SECOND, "2m 05s"),
        (3_725 * SECOND, "1h 02m"),
    ],
)  # fmt: skip
def test_durations_have_three_digits_and_a_unit(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_ticks_have_no_digits_that_say_nothing() -> None:
    assert [round_duration(n) for n in (0, 500_000_000, 5 * SECOND, 60 * SECOND)] == [
        "0", "500 ms", "5 s", "1m 00s",
    ]  # fmt: skip


def test_moments_are_told_by_their_age_and_in_utc() -> None:
    seconds = (1, 59, 60, 7_200, 200_000, -5)

    assert [ago(0, each * SECOND) for each in seconds] == [
        "just now", "59 s ago", "1 min ago", "2 h ago", "2 d ago", "just now",
    ]  # fmt: skip
    assert iso(1_544_712_660_123_456_789) == "2018-12-13T14:51:00.123Z"
