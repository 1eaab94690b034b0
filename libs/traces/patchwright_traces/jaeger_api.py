"""Jaeger's query API, so that its UI (or a test) can ask this store.

https://www.jaegertracing.io/docs/latest/architecture/apis/ and, for the
version 3 endpoints that its UI calls, jaeger-idl's query_service.proto.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from patchwright_traces import jaeger, queries
from patchwright_traces.database import Database
from patchwright_traces.pages import normal_trace_id
from patchwright_traces.search import Search

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_500

_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9,
             "h": 3600 * 10**9, "d": 86_400 * 10**9, "w": 7 * 86_400 * 10**9}  # fmt: skip

_MAX_NS = 2**63 - 1


class BadParameter(Exception):
    """A query parameter cannot be understood; the text says which."""


class JaegerApi:
    """The query endpoints."""

    def __init__(self, database: Database, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._database = database
        self._clock_ns = clock_ns

    async def trace(self, request: Request) -> Response:
        """`GET /api/traces/{trace_id}`."""
        trace_id = normal_trace_id(request.path_params["trace_id"])
        spans = await self._database.read(queries.spans, trace_id)
        if not spans:
            return JSONResponse(jaeger.failure(404, "trace not found"), 404)
        return JSONResponse(jaeger.answer([jaeger.trace(trace_id, spans)]))

    async def traces(self, request: Request) -> Response:
        """`GET /api/traces`: by `traceID` (repeatable), or a search.

        Jaeger insists on `service`; here all services are searched without it.
        """
        query = request.query_params
        ids = [normal_trace_id(each) for each in query.getlist("traceID")][:MAX_LIMIT]
        try:
            limit = min(_number(query, "limit") or DEFAULT_LIMIT, MAX_LIMIT)
            search = _search(query, self._clock_ns())
        except BadParameter as error:
            return JSONResponse(jaeger.failure(400, str(error)), 400)
        if not ids:
            found = await self._database.read(queries.listing, search, limit=limit, offset=0)
            ids = [summary.trace_id for summary in found.summaries]
        found_spans = [(each, await self._database.read(queries.spans, each)) for each in ids]
        traces = [jaeger.trace(trace_id, spans) for trace_id, spans in found_spans if spans]
        return JSONResponse(jaeger.answer(traces))

    async def services(self, _: Request) -> Response:
        """`GET /api/services`."""
        names = await self._database.read(queries.services)
        return JSONResponse(jaeger.answer(names, len(names)))

    async def operations(self, request: Request) -> Response:
        """`GET /api/services/{service}/operations`: names alone."""
        found = await self._database.read(queries.operations, request.path_params["service"])
        names = list(dict.fromkeys(name for name, _ in found))
        return JSONResponse(jaeger.answer(names, len(names)))

    async def operations_with_kinds(self, request: Request) -> Response:
        """`GET /api/operations?service=&spanKind=`."""
        found = await self._operations(request.query_params, "spanKind")
        return JSONResponse(jaeger.answer(found, len(found)))

    async def services_v3(self, _: Request) -> Response:
        """`GET /api/v3/services`."""
        return JSONResponse({"services": await self._database.read(queries.services)})

    async def operations_v3(self, request: Request) -> Response:
        """`GET /api/v3/operations?service=&span_kind=`."""
        found = await self._operations(request.query_params, "span_kind")
        return JSONResponse({"operations": found})

    async def _operations(self, query: QueryParams, kind_name: str) -> list[dict[str, str]]:
        wanted = query.get(kind_name, "")
        found = await self._database.read(queries.operations, query.get("service", ""))
        return [{"name": name, "spanKind": kind} for name, kind in found if wanted in ("", kind)]


def _search(query: QueryParams, now_ns: int) -> Search:
    """Jaeger's parameters: times in µs, durations as Go writes them, tags as a JSON object.

    `lookback` counts where `start` does not, as for a person with curl.
    """
    start, end = _number(query, "start"), _number(query, "end")
    lookback = query.get("lookback", "")
    if start is None and lookback not in ("", "custom"):
        start = (now_ns - _duration_ns("lookback", lookback)) // 1000
    return Search(
        service=query.get("service", ""),
        operation=query.get("operation", ""),
        tags=_tags(query),
        earliest_ns=None if start is None else min(start * 1000, _MAX_NS),
        latest_ns=None if end is None else min(end * 1000 + 999, _MAX_NS),
        shortest_ns=_optional_duration(query, "minDuration"),
        longest_ns=_optional_duration(query, "maxDuration"),
    )


def _tags(query: QueryParams) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in query.getlist("tag"):
        key, separator, value = pair.partition(":")
        if not separator:
            raise BadParameter(f"malformed 'tag' parameter, expecting key:value, received: {pair}")
        tags[key] = value
    for text in filter(None, query.getlist("tags")):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadParameter(f"malformed 'tags' parameter: {error}") from error
        if not isinstance(found, dict):
            raise BadParameter("malformed 'tags' parameter: not a JSON object")
        tags |= {key: str(value) for key, value in found.items()}
    return tags


def _number(query: QueryParams, name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise BadParameter(f"'{name}' is not a number: {text}")
    return int(text)


def _optional_duration(query: QueryParams, name: str) -> int | None:
    text = query.get(name, "")
    return _duration_ns(name, text) if text else None


def _duration_ns(name: str, text: str) -> int:
    """`1h30m`, `1.2s`, `100ms`, and Jaeger's own `2d`."""
    parts = re.findall(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|[smhdw])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise BadParameter(f"'{name}' is not a duration: {text}")
    return min(sum(round(float(number) * _UNITS_NS[unit]) for number, unit in parts), _MAX_NS)
