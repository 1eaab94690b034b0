"""What the SDK sends is what Jaeger's query API tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

MakeTracer = Callable[[str], Tracer]


def under(parent: Span) -> Context:
    return trace.set_span_in_context(parent)


def trace_id(span: Span) -> str:
    return trace.format_trace_id(span.get_span_context().trace_id)


def span_id(span: Span) -> str:
    return trace.format_span_id(span.get_span_context().span_id)


def fetch(viewer: httpx.Client, span: Span) -> dict[str, Any]:
    answer = viewer.get(f"/api/traces/{trace_id(span)}").raise_for_status().json()
    assert answer["errors"] is None
    (found,) = answer["data"]
    return dict(found)


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["operationName"]: each for each in found["spans"]}


def tags(span: dict[str, Any]) -> dict[str, tuple[str, object]]:
    return {tag["key"]: (tag["type"], tag["value"]) for tag in span["tags"]}


def test_one_trace_spans_several_services(viewer: httpx.Client, tracer: MakeTracer) -> None:
    ingest, runner, publisher = map(tracer, ("ingest", "runner", "publisher"))
    with (
        ingest.start_as_current_span("receive webhook", kind=SpanKind.SERVER) as hook,
        ingest.start_as_current_span("publish", kind=SpanKind.PRODUCER) as publish,
    ):
        pass
    with (
        runner.start_as_current_span("run job", under(publish), SpanKind.CONSUMER) as run,
        publisher.start_as_current_span("open pull request"),
    ):
        pass

    found = fetch(viewer, hook)

    spans = by_name(found)
    parents = {
        name: [ref["spanID"] for ref in span["references"] if ref["refType"] == "CHILD_OF"]
        for name, span in spans.items()
    }
    assert parents == {
        "receive webhook": [],
        "publish": [span_id(hook)],
        "run job": [span_id(publish)],
        "open pull request": [span_id(run)],
    }
    services = {
        name: found["processes"][span["processID"]]["serviceName"] for name, span in spans.items()
    }
    assert services == {
        "receive webhook": "ingest",
        "publish": "ingest",
        "run job": "runner",
        "open pull request": "publisher",
    }


def test_times_are_microseconds(viewer: httpx.Client, tracer: MakeTracer) -> None:
    start = time.time_ns()
    span = tracer("runner").start_span("clone", start_time=start)
    span.end(start + 1_234_567_890)

    (found,) = fetch(viewer, span)["spans"]

    assert (found["startTime"], found["duration"]) == (start // 1000, 1_234_567)


def test_attributes_keep_their_types(viewer: httpx.Client, tracer: MakeTracer) -> None:
    with tracer("runner").start_as_current_span("run", kind=SpanKind.CLIENT) as span:
        span.set_attributes(
            {"text": "ö", "yes": True, "count": 3, "cost": 0.25, "list": ["a", "b"], "big": 2**60}
        )

    found = tags(fetch(viewer, span)["spans"][0])

    assert found["text"] == ("string", "ö")
    assert found["yes"] == ("bool", True)
    assert found["count"] == ("int64", 3)
    assert found["cost"] == ("float64", 0.25)
    assert found["list"] == ("string", '["a", "b"]')
    assert found["big"] == ("int64", str(2**60)), "JavaScript would round it"
    assert found["span.kind"] == ("string", "client")
    assert found["otel.scope.name"] == ("string", "runner.tracer")


def test_an_error_is_tagged_and_its_exception_logged(
    viewer: httpx.Client, tracer: MakeTracer
) -> None:
    with (
        pytest.raises(ValueError, match="no change"),
        tracer("publisher").start_as_current_span("open pull request") as span,
    ):
        raise ValueError("no change")

    (found,) = fetch(viewer, span)["spans"]

    assert tags(found)["error"] == ("bool", True)
    assert tags(found)["otel.status_code"] == ("string", "ERROR")
    assert tags(found)["otel.status_description"] == ("string", "ValueError: no change")
    (log,) = found["logs"]
    fields = {field["key"]: field["value"] for field in log["fields"]}
    assert (fields["event"], fields["exception.type"]) == ("exception", "ValueError")


def test_a_link_becomes_a_follows_from_reference(viewer: httpx.Client, tracer: MakeTracer) -> None:
    runner = tracer("runner")
    with runner.start_as_current_span("first attempt") as first:
        pass
    link = Link(first.get_span_context())
    with runner.start_as_current_span("second attempt", links=[link]) as second:
        pass

    (found,) = fetch(viewer, second)["spans"]

    assert found["references"] == [
        {"refType": "FOLLOWS_FROM", "traceID": trace_id(first), "spanID": span_id(first)}
    ]


def test_an_ok_status_is_no_error(viewer: httpx.Client, tracer: MakeTracer) -> None:
    with tracer("runner").start_as_current_span("run") as span:
        span.set_status(Status(StatusCode.OK))

    found = tags(fetch(viewer, span)["spans"][0])

    assert found["otel.status_code"] == ("string", "OK")
    assert "error" not in found


def test_spans_that_arrive_before_their_parents_are_one_trace(
    viewer: httpx.Client, tracer: MakeTracer
) -> None:
    ingest, runner = tracer("ingest"), tracer("runner")
    root = ingest.start_span("receive webhook")
    child = runner.start_span("run job", under(root))
    grandchild = runner.start_span("run agent", under(child))
    for span in (grandchild, root, child):
        span.end()

    names = [each["operationName"] for each in fetch(viewer, root)["spans"]]

    assert names == ["receive webhook", "run job", "run agent"]
