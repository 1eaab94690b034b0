"""How a span lies in a row: what is queried in columns, the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from patchwright_traces import jaeger
from patchwright_traces.spans import JOB_ID, Event, Link, Process, Span, Tag

Row = tuple[Any, ...]

COLUMNS = (
    "trace_id, span_id, parent_id, process_id, name, kind,"
    " start_ns, end_ns, status, job_id, details, words"
)
"""What an insert names."""

SELECT = """
    SELECT spans.trace_id, spans.span_id, spans.parent_id, spans.name, spans.kind,
           spans.start_ns, spans.end_ns, spans.status, spans.details,
           services.name, processes.tags
    FROM spans
    JOIN processes ON processes.id = spans.process_id
    JOIN services ON services.id = processes.service_id
"""
"""What `from_row` reads."""


def to_row(span: Span, process_id: int) -> Row:
    """The values of `COLUMNS`."""
    job_id = span.tag(JOB_ID)
    return (
        span.trace_id,
        span.span_id,
        span.parent_id,
        process_id,
        span.name,
        span.kind,
        span.start_ns,
        span.end_ns,
        span.status,
        None if job_id is None else str(job_id),
        _details(span),
        words(span),
    )


def from_row(row: Row) -> Span:
    """The span in a row of `SELECT`."""
    trace_id, span_id, parent_id, name, kind, start_ns, end_ns, status, details, *process = row
    stored = json.loads(details)
    service, process_tags = process
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        kind=kind,
        start_ns=start_ns,
        end_ns=end_ns,
        status=status,
        status_message=stored["message"],
        process=Process(service, tags_from(json.loads(process_tags))),
        tags=tags_from(stored["tags"]),
        events=tuple(Event(at, name, tags_from(tags)) for at, name, tags in stored["events"]),
        links=tuple(Link(trace, span, tags_from(tags)) for trace, span, tags in stored["links"]),
    )


def dump_tags(tags: Iterable[Tag]) -> str:
    """Tags as canonical JSON, so that equal ones compare equal."""
    return json.dumps(_plain(tags), ensure_ascii=False)


def tags_from(plain: list[list[Any]]) -> tuple[Tag, ...]:
    """The inverse of what `dump_tags` wrote."""
    return tuple(Tag(key, kind, value) for key, kind, value in plain)


def words(span: Span) -> str:
    r"""What a search looks through, one `key=value` a line, each between two `\n`."""
    events = [f"event={event.name}" for event in span.events]
    tags = [*jaeger.span_tags(span), *span.process.tags]
    tags += [tag for event in span.events for tag in event.tags]
    lines = [span.name, span.process.service, *events, *(f"{tag.key}={tag.text}" for tag in tags)]
    return "\n" + "\n".join(lines) + "\n"


def _details(span: Span) -> str:
    return json.dumps(
        {
            "message": span.status_message,
            "tags": _plain(span.tags),
            "events": [(event.at_ns, event.name, _plain(event.tags)) for event in span.events],
            "links": [(link.trace_id, link.span_id, _plain(link.tags)) for link in span.links],
        },
        ensure_ascii=False,
    )


def _plain(tags: Iterable[Tag]) -> list[tuple[str, str, object]]:
    return [(tag.key, tag.type, tag.value) for tag in tags]
