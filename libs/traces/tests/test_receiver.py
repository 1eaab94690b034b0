"""What the OTLP endpoint takes, and how it refuses the rest."""

from __future__ import annotations

import gzip
import json
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from google.rpc import status_pb2  # type: ignore[import-untyped]  # stubs without py.typed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
TRACE = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")

CUT_OFF = gzip.compress(b"x" * 99, mtime=0)[:-9]


def batch(spans: Iterable[Span], service: str = "runner") -> bytes:
    name = KeyValue(key="service.name", value=AnyValue(string_value=service))
    resource_spans = ResourceSpans(
        resource=Resource(attributes=[name]), scope_spans=[ScopeSpans(spans=spans)]
    )
    return ExportTraceServiceRequest(resource_spans=[resource_spans]).SerializeToString()


def span(number: int, trace: bytes = TRACE, **fields: object) -> Span:
    ends = {"start_time_unix_nano": number * 1000, "end_time_unix_nano": number * 1000 + 500}
    given = ends | {"name": f"span {number}"} | fields
    made = Span(trace_id=trace, span_id=number.to_bytes(8, "big"))
    for field, value in given.items():
        setattr(made, field, value)
    return made


def export(viewer: httpx.Client, body: bytes, **headers: str) -> httpx.Response:
    return viewer.post("/v1/traces", content=body, headers=PROTOBUF | headers)


def stored(viewer: httpx.Client, trace: bytes = TRACE) -> list[str]:
    answer = viewer.get(f"/api/traces/{trace.hex()}").json()
    return [each["operationName"] for found in answer["data"] or [] for each in found["spans"]]


def reason(answer: httpx.Response) -> str:
    if answer.headers["content-type"] == PROTOBUF["Content-Type"]:
        return str(status_pb2.Status.FromString(answer.content).message)
    return str(answer.json()["message"])


def test_a_batch_is_answered_with_an_empty_response(viewer: httpx.Client) -> None:
    answer = export(viewer, batch([span(1)]))

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-protobuf")
    response = ExportTraceServiceResponse.FromString(answer.content)
    assert not response.HasField("partial_success")
    assert stored(viewer) == ["span 1"]


def test_gzip_is_unpacked(viewer: httpx.Client) -> None:
    body = gzip.compress(batch([span(1)]))

    assert export(viewer, body, **{"Content-Encoding": "gzip"}).status_code == 200
    assert stored(viewer) == ["span 1"]


def test_json_is_understood(viewer: httpx.Client) -> None:
    sent = {
        "traceId": TRACE.hex(),
        "spanId": "00f067aa0ba902b7",
        "parentSpanId": "00f067aa0ba902b6",
        "name": "from a browser",
        "kind": 3,
        "startTimeUnixNano": "1544712660000000000",
        "endTimeUnixNano": "1544712661000000000",
        "attributes": [{"key": "n", "value": {"intValue": "7"}}],
        "links": [{"traceId": "ab" * 16, "spanId": "cd" * 8}],
        "status": {"code": 2},
        "fieldOfALaterVersion": 1,
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [sent]}]}]}

    answer = viewer.post("/v1/traces", json=body)

    assert (answer.status_code, answer.json()) == (200, {})
    (found,) = viewer.get(f"/api/traces/{TRACE.hex()}").json()["data"]
    (kept,) = found["spans"]
    assert [ref["spanID"] for ref in kept["references"]] == ["00f067aa0ba902b6", "cd" * 8]
    assert {"key": "n", "type": "int64", "value": 7} in kept["tags"]
    assert found["processes"]["p1"]["serviceName"] == "unknown_service"


def test_an_export_that_is_sent_again_changes_nothing(viewer: httpx.Client) -> None:
    body = batch([span(1), span(2)])
    for _ in range(2):
        assert export(viewer, body).status_code == 200
    before = viewer.get("/").headers["etag"]

    export(viewer, body)

    assert stored(viewer) == ["span 1", "span 2"]
    assert viewer.get("/").headers["etag"] == before


@pytest.mark.parametrize(
    ("headers", "body", "status", "why"),
    [
        (PROTOBUF, b"\xff\xff\xff not protobuf", 400, "not an ExportTraceServiceRequest"),
        (PROTOBUF, batch([span(1)])[:-3], 400, "not an ExportTraceServiceRequest"),
        (PROTOBUF | {"Content-Encoding": "gzip"}, b"plain", 400, "not gzip"),
        (PROTOBUF | {"Content-Encoding": "gzip"}, CUT_OFF, 400, "cut off"),
        (PROTOBUF | {"Content-Encoding": "br"}, b"", 415, "gzip or identity"),
        (JSON, b"{", 400, "not OTLP in JSON"),
        (JSON, b"[]", 400, "not a JSON object"),
        (JSON, b"[" * 100_000, 400, "not OTLP in JSON"),
        (JSON, b'{"resourceSpans": [{"scopeSpans": 7}]}', 400, "not OTLP in JSON"),
        (JSON, b'{"resourceSpans": [{"scopeSpans": [{"spans": [1]}]}]}', 400, "not OTLP in JSON"),
        (JSON, b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "z"}]}]}]}', 400, "hex"),
        ({"Content-Type": "text/plain"}, b"", 415, "content type"),
        ({}, b"", 415, "content type"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_a_reason(
    viewer: httpx.Client, headers: dict[str, str], body: bytes, status: int, why: str
) -> None:
    answer = viewer.post("/v1/traces", content=body, headers=headers)

    assert answer.status_code == status
    assert why in reason(answer)


def test_a_lone_surrogate_is_refused_or_kept_but_breaks_nothing(viewer: httpx.Client) -> None:
    sent = {"traceId": TRACE.hex(), "spanId": "00f067aa0ba902b7", "name": "\ud800"}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [sent]}]}]})

    assert viewer.post("/v1/traces", content=body, headers=JSON).status_code in (200, 400)
    assert viewer.get("/").status_code == 200


def test_a_body_over_the_limit_is_413(viewer: httpx.Client) -> None:
    assert export(viewer, bytes(20 * 2**20 + 1)).status_code == 413


def test_a_body_over_the_limit_without_a_length_is_413(viewer: httpx.Client) -> None:
    chunks = (bytes(2**20) for _ in range(21))

    assert viewer.post("/v1/traces", content=chunks, headers=PROTOBUF).status_code == 413


def test_a_gzip_bomb_is_413(viewer: httpx.Client) -> None:
    answer = export(viewer, gzip.compress(bytes(65 * 2**20)), **{"Content-Encoding": "gzip"})

    assert answer.status_code == 413
    assert "64 MiB" in reason(answer)


def test_only_post_is_allowed(viewer: httpx.Client) -> None:
    assert viewer.get("/v1/traces").status_code == 405


def test_unusable_spans_are_counted_and_the_others_kept(viewer: httpx.Client) -> None:
    bad = [
        span(2, trace=bytes(16)),
        span(3, trace=b"short"),
        span(4, span_id=bytes(8)),
        span(5, end_time_unix_nano=2**64 - 1),
    ]

    answer = export(viewer, batch([span(1), *bad]))

    success = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, success.rejected_spans) == (200, 4)
    assert "a trace id is 16 bytes" in success.error_message
    assert stored(viewer) == ["span 1"]


def test_ten_thousand_spans_in_one_batch_are_kept(viewer: httpx.Client) -> None:
    assert export(viewer, batch(span(number) for number in range(1, 10_001))).status_code == 200

    assert len(stored(viewer)) == 10_000
    assert "10,000" in viewer.get("/").text


def test_a_trace_that_never_ends_stops_growing(viewer: httpx.Client) -> None:
    for first in (1, 10_001):
        answer = export(viewer, batch(span(number) for number in range(first, first + 10_000)))

    success = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert success.rejected_spans == 8_000
    assert "12000 spans" in success.error_message


def test_concurrent_writers_lose_nothing(viewer: httpx.Client) -> None:
    statuses: list[int] = []

    def write(writer: int) -> None:
        for number in range(20):
            body = batch([span(writer * 100 + number + 1)], service=f"service-{writer}")
            statuses.append(export(viewer, body).status_code)
            viewer.get("/")

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert statuses == [200] * 160
    assert len(stored(viewer)) == 160


def test_a_locked_database_is_503_so_that_the_exporter_tries_again(
    viewer: httpx.Client, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "traces.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    refused = export(viewer, batch([span(1)]))
    other.execute("ROLLBACK")
    other.close()

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert export(viewer, batch([span(1)])).status_code == 200
    assert stored(viewer) == ["span 1"]
