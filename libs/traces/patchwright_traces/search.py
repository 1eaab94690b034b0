"""What a search means in SQL. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Parameters = list[str | int]

_LIKE = r"LIKE ? ESCAPE '\'"


@dataclass(frozen=True, slots=True)
class Search:
    """Which traces are wanted; everything that is left out matches all.

    `text` is what a person typed: each of its words must occur somewhere in the
    trace. The others are Jaeger's search parameters; durations are the trace's.
    """

    text: str = ""
    service: str = ""
    operation: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    earliest_ns: int | None = None
    latest_ns: int | None = None
    shortest_ns: int | None = None
    longest_ns: int | None = None

    def where(self) -> tuple[str, Parameters]:
        """A condition on `traces` and the values of its placeholders."""
        conditions, values = ["TRUE"], Parameters()
        for word in self.text.split():
            conditions.append(f"(traces.trace_id {_LIKE} OR {_a_span('words ' + _LIKE)})")
            values += [f"{_literal(word)}%", f"%{_literal(word)}%"]
        if condition := self._same_span(values):
            conditions.append(_a_span(condition))
        for bound, comparison in (
            (self.earliest_ns, "traces.start_ns >= ?"),
            (self.latest_ns, "traces.start_ns <= ?"),
            (self.shortest_ns, "traces.end_ns - traces.start_ns >= ?"),
            (self.longest_ns, "traces.end_ns - traces.start_ns <= ?"),
        ):
            if bound is not None:
                conditions.append(comparison)
                values.append(bound)
        return " AND ".join(conditions), [*values]

    def _same_span(self, values: Parameters) -> str:
        """Jaeger wants service, operation and tags on one and the same span."""
        conditions: list[str] = []
        if self.service:
            conditions.append(
                "process_id IN (SELECT processes.id FROM processes"
                " JOIN services ON services.id = service_id WHERE services.name = ?)"
            )
            values.append(self.service)
        if self.operation:
            conditions.append("spans.name = ?")
            values.append(self.operation)
        for key, value in self.tags.items():
            conditions.append("instr(words, ?) > 0")
            values.append(f"\n{key}={value}\n")
        return " AND ".join(conditions)


def _a_span(condition: str) -> str:
    same = "spans.trace_id = traces.trace_id"
    return f"EXISTS (SELECT 1 FROM spans WHERE {same} AND {condition})"  # noqa: S608 - a condition


def _literal(word: str) -> str:
    """`word` with what LIKE would take as a wildcard escaped."""
    return re.sub(r"([%_\\])", r"\\\1", word)
