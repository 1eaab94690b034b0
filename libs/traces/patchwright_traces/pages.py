"""The two pages for people: the list of traces and a trace's waterfall.

They carry an entity tag, so that a page that watches asks cheaply. Everything
in them came from outside: autoescaping stays on, and no value is ever marked safe.
"""

from __future__ import annotations

import asyncio
import secrets
import time

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from patchwright_traces import queries
from patchwright_traces.database import Database
from patchwright_traces.search import Search
from patchwright_traces.templates import environment
from patchwright_traces.timeline import lay_out

PAGE_SIZE = 50


class Pages:
    """The page endpoints."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._environment = environment()
        self._run = secrets.token_hex(4)

    async def traces(self, request: Request) -> Response:
        """`GET /?q=&page=`: the list, newest first."""
        tag = self._entity_tag(await self._database.read(queries.revision))
        if tag == request.headers.get("if-none-match"):
            return _unchanged(tag)
        text = request.query_params.get("q", "").strip()
        number = page_number(request.query_params.get("page", ""))
        found = await self._database.read(
            queries.listing, Search(text=text), limit=PAGE_SIZE, offset=(number - 1) * PAGE_SIZE
        )
        return await self._page(
            "traces.html",
            tag,
            found=found,
            text=text,
            number=number,
            last=max(1, -(-found.total // PAGE_SIZE)),
            longest_ns=max((each.duration_ns for each in found.summaries), default=0),
            receiver=f"{request.url.scheme}://{request.url.netloc}",
        )

    async def trace(self, request: Request) -> Response:
        """`GET /trace/{trace_id}`: the waterfall, or a page that waits for it."""
        trace_id = normal_trace_id(request.path_params["trace_id"])
        revision = await self._database.read(queries.trace_revision, trace_id)
        tag = self._entity_tag(revision or 0)
        if tag == request.headers.get("if-none-match"):
            return _unchanged(tag)
        summary = await self._database.read(queries.summary, trace_id)
        spans = await self._database.read(queries.spans, trace_id)
        if summary is None or not spans:
            return await self._page("missing.html", tag, 404, trace_id=trace_id)
        timeline = await asyncio.to_thread(lay_out, spans)
        return await self._page(
            "trace.html",
            tag,
            summary=summary,
            timeline=timeline,
            services={service.name: service for service in summary.services},
            failed=[row.span.span_id for row in timeline.rows if row.span.failed],
            orphans=sum(row.note == "orphan" for row in timeline.rows),
            processes=list(dict.fromkeys(row.span.process for row in timeline.rows)),
        )

    def _entity_tag(self, revision: int) -> str:
        """Differs between runs too, as the next one may have another template or file."""
        return f'W/"{self._run}-{revision}"'

    async def _page(self, name: str, tag: str, status: int = 200, **values: object) -> Response:
        template = self._environment.get_template(name)
        text = await asyncio.to_thread(template.render, tag=tag, now_ns=time.time_ns(), **values)
        return HTMLResponse(text, status, {"ETag": tag})


def _unchanged(tag: str) -> Response:
    return Response(status_code=304, headers={"ETag": tag})


def page_number(text: str) -> int:
    """The page that an address asks for; anything odd is the first."""
    return max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) < 7 else 1


def normal_trace_id(text: str) -> str:
    """An id as people and Jaeger write it: in any case, perhaps without leading zeros."""
    return text.lower().rjust(32, "0")
