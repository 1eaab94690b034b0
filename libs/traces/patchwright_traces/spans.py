"""A span as the store and the pages know it, whatever encoding it came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TagType = Literal["string", "bool", "int64", "float64", "binary"]
TagValue = str | bool | int | float

JOB_ID = "patchwright.job.id"
"""The attribute that says which job a span belongs to."""

KINDS = ("", "internal", "server", "client", "producer", "consumer")
"""OTLP's span kinds by number; Jaeger's `span.kind` tag takes the names."""

STATUSES = ("UNSET", "OK", "ERROR")
"""OTLP's status codes by number."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One attribute in Jaeger's terms: lists and maps are JSON text, bytes base64."""

    key: str
    type: TagType
    value: TagValue

    @property
    def text(self) -> str:
        """The value as people and searches write it."""
        return str(self.value).lower() if self.type == "bool" else str(self.value)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `at_ns` (Unix time) during a span."""

    at_ns: int
    name: str
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """Another span that this one belongs with, usually in another trace."""

    trace_id: str
    span_id: str
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """Who made the span: `service.name` and the resource's other attributes."""

    service: str
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """One span; ids are lower-case hex, times are Unix nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    process: Process
    tags: tuple[Tag, ...] = ()
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether its owner said that it went wrong."""
        return self.status == "ERROR"

    @property
    def duration_ns(self) -> int:
        """Never negative, though clocks sometimes are."""
        return max(0, self.end_ns - self.start_ns)

    def tag(self, key: str) -> TagValue | None:
        """The value of the attribute `key`."""
        return next((tag.value for tag in self.tags if tag.key == key), None)
