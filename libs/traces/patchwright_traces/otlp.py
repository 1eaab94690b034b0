"""From OTLP's two encodings to spans. Pure: no I/O.

The JSON encoding is protobuf's, except that ids are hex instead of base64:
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from patchwright_traces.spans import KINDS, STATUSES, Event, Link, Process, Span, Tag

_LATEST_NS = 2**63 - 1
"""SQLite's integers are signed, OTLP's times are not (this is the year 2262)."""


class Malformed(Exception):
    """The request is no ExportTraceServiceRequest; the text says why."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a request held: usable spans, and why the others were refused."""

    spans: list[Span]
    refused: list[str]


def from_protobuf(body: bytes) -> Batch:
    """Decode OTLP's binary encoding. Raises `Malformed`."""
    try:
        return _batch(ExportTraceServiceRequest.FromString(body))
    except DecodeError as error:
        raise Malformed("the body is not an ExportTraceServiceRequest in protobuf") from error


def from_json(body: bytes) -> Batch:
    """Decode OTLP's JSON encoding. Raises `Malformed`."""
    try:
        tree = json.loads(body)
        if not isinstance(tree, dict):
            raise Malformed("the body is not a JSON object")
        _ids_to_base64(tree)
        message = ExportTraceServiceRequest()
        json_format.ParseDict(tree, message, ignore_unknown_fields=True)
        return _batch(message)
    except (ValueError, RecursionError, json_format.ParseError) as error:
        raise Malformed(f"the body is not OTLP in JSON: {error}") from error


def _ids_to_base64(tree: dict[str, Any]) -> None:
    for span in _json_spans(tree):
        links = span.get("links")
        for holder in [span, *(links if isinstance(links, list) else [])]:
            for key in ("traceId", "spanId", "parentSpanId"):
                if isinstance(holder, dict) and isinstance(holder.get(key), str):
                    holder[key] = base64.b64encode(bytes.fromhex(holder[key])).decode()


def _json_spans(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The spans in a tree that may have any shape; ParseDict reports the bad ones."""
    level: list[Any] = [tree]
    for key in ("resourceSpans", "scopeSpans", "spans"):
        lists = [each[key] for each in level if isinstance(each, dict) and key in each]
        level = [each for found in lists if isinstance(found, list) for each in found]
    return (span for span in level if isinstance(span, dict))


def _batch(message: ExportTraceServiceRequest) -> Batch:
    spans: list[Span] = []
    refused: list[str] = []
    for resource_spans in message.resource_spans:
        process = _process(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            scope = _scope_tags(scope_spans.scope)
            for span in scope_spans.spans:
                if reason := _refusal(span):
                    refused.append(reason)
                else:
                    spans.append(_span(span, process, scope))
    return Batch(spans, refused)


def _refusal(span: trace_pb2.Span) -> str:
    if len(span.trace_id) != 16 or not any(span.trace_id):
        return "a trace id is 16 bytes and not all zero"
    if len(span.span_id) != 8 or not any(span.span_id):
        return "a span id is 8 bytes and not all zero"
    times = [span.start_time_unix_nano, span.end_time_unix_nano]
    times += [event.time_unix_nano for event in span.events]
    if max(times) > _LATEST_NS:
        return "a time is after the year 2262"
    return ""


def _span(span: trace_pb2.Span, process: Process, scope: tuple[Tag, ...]) -> Span:
    parent = span.parent_span_id.hex()
    state = (Tag("w3c.tracestate", "string", span.trace_state),) if span.trace_state else ()
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=parent if parent.strip("0") else None,
        name=span.name,
        kind=_named(KINDS, span.kind),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=_named(STATUSES, span.status.code),
        status_message=span.status.message,
        process=process,
        tags=_tags(span.attributes) + scope + state,
        events=tuple(
            Event(event.time_unix_nano, event.name, _tags(event.attributes))
            for event in span.events
        ),
        links=tuple(
            Link(link.trace_id.hex(), link.span_id.hex(), _tags(link.attributes))
            for link in span.links
        ),
    )


def _named(names: tuple[str, ...], number: int) -> str:
    """Enums are open in proto3: a number from a later version means the default."""
    return names[number] if 0 <= number < len(names) else names[0]


def _process(resource: Resource) -> Process:
    tags = _tags(resource.attributes)
    named = next((tag.text for tag in tags if tag.key == "service.name"), "")
    rest = tuple(tag for tag in tags if tag.key != "service.name")
    return Process(named or "unknown_service", rest)


def _scope_tags(scope: InstrumentationScope) -> tuple[Tag, ...]:
    named = (("otel.scope.name", scope.name), ("otel.scope.version", scope.version))
    return tuple(Tag(key, "string", value) for key, value in named if value)


def _tags(attributes: Iterable[KeyValue]) -> tuple[Tag, ...]:
    return tuple(_tag(attribute.key, attribute.value) for attribute in attributes)


def _tag(key: str, value: AnyValue) -> Tag:
    plain = _plain(value)
    match plain:
        case bool():
            return Tag(key, "bool", plain)
        case int():
            return Tag(key, "int64", plain)
        case float():
            return Tag(key, "float64", plain)
        case str():
            return Tag(key, "binary" if value.HasField("bytes_value") else "string", plain)
        case _:
            return Tag(key, "string", json.dumps(plain, ensure_ascii=False))


def _plain(value: AnyValue) -> object:
    """The value as JSON can hold it, so infinities and bytes become text."""
    match value.WhichOneof("value"):
        case "array_value":
            return [_plain(each) for each in value.array_value.values]
        case "kvlist_value":
            return {each.key: _plain(each.value) for each in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "double_value" if not math.isfinite(value.double_value):
            return str(value.double_value)
        case None:
            return ""
        case field:
            plain: object = getattr(value, field)
            return plain
