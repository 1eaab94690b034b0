"""The addresses that Jaeger's UI calls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import httpx
import pytest
from opentelemetry.trace import SpanKind, Tracer

MakeTracer = Callable[[str], Tracer]

SECOND = 10**9


def names(answer: httpx.Response) -> list[str]:
    found = answer.raise_for_status().json()["data"]
    return [trace["spans"][0]["operationName"] for trace in found]


def make_span(
    tracer: Tracer, name: str, *, seconds_ago: float, lasts: float = 1, **attributes: str
) -> None:
    start = time.time_ns() - round(seconds_ago * SECOND)
    span = tracer.start_span(name, start_time=start, attributes=attributes)
    span.end(start + round(lasts * SECOND))


def test_an_unknown_trace_is_404_in_jaegers_envelope(viewer: httpx.Client) -> None:
    answer = viewer.get(f"/api/traces/{'ab' * 16}")

    assert answer.status_code == 404
    assert answer.json()["errors"] == [{"code": 404, "msg": "trace not found"}]


def test_services_and_operations_are_listed(viewer: httpx.Client, tracer: MakeTracer) -> None:
    with tracer("ingest").start_as_current_span("receive webhook", kind=SpanKind.SERVER):
        pass
    with tracer("a/b c").start_as_current_span("odd"):
        pass

    assert viewer.get("/api/services").json()["data"] == ["a/b c", "ingest"]
    assert viewer.get("/api/v3/services").json() == {"services": ["a/b c", "ingest"]}
    assert viewer.get("/api/services/ingest/operations").json()["data"] == ["receive webhook"]
    assert viewer.get("/api/services/a%2Fb%20c/operations").json()["data"] == ["odd"]
    kinds = [{"name": "receive webhook", "spanKind": "server"}]
    assert viewer.get("/api/v3/operations?service=ingest").json() == {"operations": kinds}
    assert viewer.get("/api/operations?service=ingest&spanKind=server").json()["data"] == kinds
    assert viewer.get("/api/operations?service=ingest&spanKind=client").json()["data"] == []


def test_traces_are_found_by_what_a_span_is(viewer: httpx.Client, tracer: MakeTracer) -> None:
    ingest, runner = tracer("ingest"), tracer("runner")
    make_span(ingest, "old", seconds_ago=7200)
    make_span(ingest, "new", seconds_ago=10, color="red")
    make_span(runner, "long", seconds_ago=60, lasts=30)

    def found(**query: str) -> list[str]:
        return names(viewer.get("/api/traces", params=query))

    assert found() == ["new", "long", "old"]
    assert found(service="ingest") == ["new", "old"]
    assert found(service="ingest", limit="1") == ["new"]
    assert found(service="ingest", lookback="1h") == ["new"]
    assert found(service="ingest", operation="old") == ["old"]
    assert found(minDuration="1.5s") == ["long"]
    assert found(maxDuration="1500ms") == ["new", "old"]
    assert found(tags=json.dumps({"color": "red"})) == ["new"]
    assert found(tag="color:red") == ["new"]
    assert found(service="runner", tag="color:red") == []
    an_hour_ago = str((time.time_ns() - 3600 * SECOND) // 1000)
    assert found(start=an_hour_ago) == ["new", "long"]
    assert found(end=an_hour_ago) == ["old"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=x",
        "lookback=soon",
        "minDuration=5",
        "tags=[1]",
        "tags={",
        "tag=x",
        f"start={'9' * 40}",
    ],
)
def test_a_bad_parameter_is_400_with_a_reason(viewer: httpx.Client, query: str) -> None:
    answer = viewer.get(f"/api/traces?{query}")

    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["errors"][0]["msg"]


def test_the_largest_bounds_are_no_error(viewer: httpx.Client) -> None:
    answer = viewer.get(f"/api/traces?start={'9' * 18}&minDuration=999999999999w")

    assert answer.json()["data"] == []


def test_traces_are_fetched_by_id(viewer: httpx.Client, tracer: MakeTracer) -> None:
    make_span(tracer("ingest"), "one", seconds_ago=1)
    (listed,) = viewer.get("/api/traces").json()["data"]
    trace_id = listed["traceID"]

    assert viewer.get("/api/traces", params={"traceID": trace_id}).json()["data"] == [listed]
    assert viewer.get(f"/api/traces/{trace_id.upper()}").json()["data"] == [listed]


def test_health_is_told(viewer: httpx.Client) -> None:
    assert viewer.get("/healthz").json() == {"status": "ok"}
