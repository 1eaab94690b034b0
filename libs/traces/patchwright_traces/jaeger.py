"""Spans in the JSON of Jaeger's query API. Pure.

Shapes: https://github.com/jaegertracing/jaeger/blob/main/internal/uimodel/model.go
How OTLP maps to them: https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/jaeger/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patchwright_traces.spans import Event, Process, Span, Tag

Json = dict[str, Any]

_SAFE_INTEGER = 2**53 - 1
"""Beyond it JavaScript loses digits, so Jaeger sends such integers as text."""


def answer(data: object, total: int = 0) -> Json:
    """The envelope around every answer of the query API."""
    return {"data": data, "total": total, "limit": 0, "offset": 0, "errors": None}


def failure(status: int, reason: str) -> Json:
    """The envelope around a refusal."""
    return answer(None) | {"errors": [{"code": status, "msg": reason}]}


def trace(trace_id: str, spans: Sequence[Span]) -> Json:
    """One trace; spans come in the order given."""
    processes = list(dict.fromkeys(span.process for span in spans))
    names = {process: f"p{number}" for number, process in enumerate(processes, start=1)}
    return {
        "traceID": trace_id,
        "spans": [_span(span, names[span.process]) for span in spans],
        "processes": {name: _process(process) for process, name in names.items()},
        "warnings": None,
    }


def span_tags(span: Span) -> tuple[Tag, ...]:
    """The span's attributes and those that Jaeger derives from its kind and status."""
    derived: list[Tag] = []
    if span.kind:
        derived.append(Tag("span.kind", "string", span.kind))
    if span.status != "UNSET":
        derived.append(Tag("otel.status_code", "string", span.status))
    if span.failed:
        derived.append(Tag("error", "bool", True))
    if span.status_message:
        derived.append(Tag("otel.status_description", "string", span.status_message))
    own = {tag.key for tag in span.tags}
    return span.tags + tuple(tag for tag in derived if tag.key not in own)


def _span(span: Span, process: str) -> Json:
    backwards = span.end_ns < span.start_ns
    return {
        "traceID": span.trace_id,
        "spanID": span.span_id,
        "operationName": span.name,
        "references": _references(span),
        "startTime": span.start_ns // 1000,
        "duration": span.duration_ns // 1000,
        "tags": [_tag(tag) for tag in span_tags(span)],
        "logs": [_log(event) for event in span.events],
        "processID": process,
        "warnings": ["the span ends before it starts"] if backwards else None,
    }


def _references(span: Span) -> list[Json]:
    parents = [] if span.parent_id is None else [("CHILD_OF", span.trace_id, span.parent_id)]
    links = [("FOLLOWS_FROM", link.trace_id, link.span_id) for link in span.links]
    return [
        {"refType": kind, "traceID": trace_id, "spanID": span_id}
        for kind, trace_id, span_id in parents + links
    ]


def _log(event: Event) -> Json:
    fields = [Tag("event", "string", event.name), *event.tags]
    return {"timestamp": event.at_ns // 1000, "fields": [_tag(tag) for tag in fields]}


def _process(process: Process) -> Json:
    return {"serviceName": process.service, "tags": [_tag(tag) for tag in process.tags]}


def _tag(tag: Tag) -> Json:
    unsafe = tag.type == "int64" and abs(int(tag.value)) > _SAFE_INTEGER
    return {"key": tag.key, "type": tag.type, "value": str(tag.value) if unsafe else tag.value}
