"""OTLP over HTTP: `POST /v1/traces`.

https://opentelemetry.io/docs/specs/otlp/#otlphttp: failures carry a
google.rpc.Status in the request's encoding, 400 and 413 are never retried by
an exporter, 503 is.
"""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from collections.abc import Callable

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2  # type: ignore[import-untyped]  # stubs without py.typed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from starlette.requests import Request
from starlette.responses import Response

from patchwright_traces import otlp
from patchwright_traces.database import Database
from patchwright_traces.recording import Limits, record

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

MAX_WIRE_BYTES = 20 * 2**20
"""What the OpenTelemetry Collector's receiver takes too."""

MAX_BODY_BYTES = 64 * 2**20
"""After decompression: a gzip of 20 MiB could hold 20 GiB."""

_READ_SECONDS = 30.0

_DECODERS: dict[str, Callable[[bytes], otlp.Batch]] = {
    PROTOBUF: otlp.from_protobuf,
    JSON: otlp.from_json,
}


class Refused(Exception):
    """The request gets `status` and the reason as its answer."""

    def __init__(self, status: int, reason: str, code: int = code_pb2.INVALID_ARGUMENT) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.code = code


class Receiver:
    """The endpoint: decodes a batch and has it recorded before it answers."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    async def export(self, request: Request) -> Response:
        """`POST /v1/traces`."""
        encoding = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            return _encoded(await self._take(request, encoding), encoding)
        except Refused as refused:
            status = status_pb2.Status(code=refused.code, message=refused.reason)
            return _encoded(status, encoding, refused.status)

    async def _take(self, request: Request, encoding: str) -> ExportTraceServiceResponse:
        if encoding not in _DECODERS:
            raise Refused(415, f"the content type must be {PROTOBUF} or {JSON}")
        compression = request.headers.get("content-encoding", "identity").strip().lower()
        if compression not in ("identity", "gzip"):
            raise Refused(415, "the content encoding must be gzip or identity")
        body = await _body(request)
        batch = await asyncio.to_thread(_decode, body, encoding, compression)
        try:
            without_room = await self._database.write(record, batch.spans, self._limits)
        except sqlite3.OperationalError as error:
            raise Refused(503, f"cannot store: {error}", code_pb2.UNAVAILABLE) from error
        return _response(batch.refused, without_room, self._limits)


async def _body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MAX_WIRE_BYTES:
        raise _too_large(MAX_WIRE_BYTES)
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_WIRE_BYTES:
                    raise _too_large(MAX_WIRE_BYTES)
    except TimeoutError as error:
        raise Refused(408, f"the body did not arrive within {_READ_SECONDS:.0f} s") from error
    return bytes(body)


def _decode(body: bytes, encoding: str, compression: str) -> otlp.Batch:
    try:
        return _DECODERS[encoding](_gunzip(body) if compression == "gzip" else body)
    except otlp.Malformed as error:
        raise Refused(400, str(error)) from error


def _gunzip(body: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = stream.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise Refused(400, "the body is not gzip, though its content encoding says so") from error
    if stream.unconsumed_tail:
        raise _too_large(MAX_BODY_BYTES)
    if not stream.eof:
        raise Refused(400, "the gzip stream is cut off")
    return plain


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body is larger than {limit // 2**20} MiB: send smaller batches")


def _response(refused: list[str], without_room: int, limits: Limits) -> ExportTraceServiceResponse:
    """Full success is an empty message; a partial one counts what was left out, and why."""
    if not refused and not without_room:
        return ExportTraceServiceResponse()
    reasons = sorted(set(refused))
    if without_room:
        reasons.append(f"a trace keeps {limits.spans_per_trace} spans")
    return ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(
            rejected_spans=len(refused) + without_room, error_message="; ".join(reasons)
        )
    )


def _encoded(message: Message, encoding: str, status: int = 200) -> Response:
    """In the request's encoding; a request in neither is answered in JSON, for people."""
    headers = {"Retry-After": "1"} if status == 503 else None
    if encoding == PROTOBUF:
        return Response(message.SerializeToString(), status, headers, PROTOBUF)
    return Response(json_format.MessageToJson(message), status, headers, JSON)
