"""The waterfall: which row a span gets, and where its bar lies. Pure.

Positions are percentages of the trace's duration.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from patchwright_traces.spans import Span

Note = Literal["", "orphan", "loop"]
"""`orphan`: its parent has not arrived. `loop`: its ancestors include itself."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of the time axis."""

    left: float
    width: float
    duration_ns: int

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.left + self.width


@dataclass(frozen=True, slots=True)
class Row:
    """A span in its place: children follow their parent, one deeper, by their start."""

    span: Span
    depth: int
    offset_ns: int
    bar: Bar
    wait: Bar | None
    note: Note
    handed_over: bool
    """Whether another service did the parent."""

    @property
    def label(self) -> Literal["after", "before", "inside"]:
        """Where the duration can be written without leaving the axis."""
        if self.bar.right <= 88:
            return "after"
        return "before" if self.label_left >= 12 else "inside"

    @property
    def label_left(self) -> float:
        """Where a label `before` ends: left of the waiting too."""
        return self.wait.left if self.wait else self.bar.left


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled moment of the axis."""

    left: float
    offset_ns: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """A whole trace, laid out."""

    start_ns: int
    duration_ns: int
    rows: Sequence[Row]
    ticks: Sequence[Tick]

    @property
    def waiting_ns(self) -> int:
        """The time that messages lay in queues."""
        return sum(row.wait.duration_ns for row in self.rows if row.wait)


def lay_out(spans: Sequence[Span]) -> Timeline:
    """The timeline of a trace's spans (at least one), in whatever order they are."""
    by_id = {span.span_id: span for span in spans}
    scale = _Scale(
        min(span.start_ns for span in spans), max(max(span.start_ns, span.end_ns) for span in spans)
    )
    rows = [
        Row(
            span=span,
            depth=depth,
            offset_ns=span.start_ns - scale.start_ns,
            bar=scale.bar(span.start_ns, span.end_ns),
            wait=_wait(span, by_id, scale),
            note=note,
            handed_over=_service(by_id.get(span.parent_id or "")) != span.process.service,
        )
        for span, depth, note in _in_order(spans, by_id)
    ]
    return Timeline(scale.start_ns, scale.duration_ns, rows, _ticks(scale.duration_ns))


def _service(span: Span | None) -> str | None:
    return None if span is None else span.process.service


class _Scale:
    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        self.duration_ns = end_ns - start_ns

    def bar(self, start_ns: int, end_ns: int) -> Bar:
        length = max(0, end_ns - start_ns)
        whole = max(1, self.duration_ns)
        return Bar(100 * (start_ns - self.start_ns) / whole, 100 * length / whole, length)


def _wait(span: Span, by_id: dict[str, Span], scale: _Scale) -> Bar | None:
    """From the end of what sent the message to the start of what took it."""
    consumes = span.kind == "consumer" or span.tag("messaging.operation.type") == "process"
    linked = [link.span_id for link in span.links if link.trace_id == span.trace_id]
    sender = next((by_id[id_] for id_ in [span.parent_id, *linked] if id_ in by_id), None)
    if not consumes or sender is None or span.start_ns <= sender.end_ns:
        return None
    return scale.bar(sender.end_ns, span.start_ns)


def _in_order(spans: Sequence[Span], by_id: dict[str, Span]) -> Iterator[tuple[Span, int, Note]]:
    """Every span once, depth first. Without recursion: a trace may be thousands deep."""
    children: defaultdict[str | None, list[Span]] = defaultdict(list)
    roots: list[tuple[Span, Note]] = []
    loops: list[tuple[Span, Note]] = []
    ordered = sorted(spans, key=lambda span: (span.start_ns, -span.end_ns, span.span_id))
    for span in ordered:
        if span.parent_id in by_id and span.parent_id != span.span_id:
            children[span.parent_id].append(span)
            loops.append((span, "loop"))
        else:
            roots.append((span, "orphan" if span.parent_id else ""))
    seen: set[str] = set()
    for root, note in roots + loops:
        stack: list[tuple[Span, int, Note]] = [(root, 0, note)]
        while stack:
            span, depth, why = stack.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            yield span, depth, why
            stack += [(child, depth + 1, "") for child in reversed(children[span.span_id])]


def _ticks(duration_ns: int, wanted: int = 5) -> list[Tick]:
    """Round moments (1, 2 or 5 times a power of ten; past a minute, of minutes or hours)."""
    if duration_ns <= 0:
        return [Tick(0, 0)]
    step = _round_step(duration_ns / wanted)
    return [Tick(100 * offset / duration_ns, offset) for offset in range(0, duration_ns + 1, step)]


def _round_step(rough_ns: float) -> int:
    minute = 60 * 10**9
    if rough_ns > minute / 4:
        day = 1440 * minute
        steps = [minute // 2, *(minute * n for n in (1, 2, 5, 10, 15, 30, 60, 120, 300, 720))]
        return next((step for step in steps if step >= rough_ns), day * math.ceil(rough_ns / day))
    power = 10 ** math.floor(math.log10(max(1.0, rough_ns)))
    return int(next(power * n for n in (1, 2, 5, 10) if power * n >= rough_ns))
