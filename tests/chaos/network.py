"""The network between GitHub and ingest: it holds webhooks, doubles them, and loses answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from standin_model.server import running

from .plan import Passage

TIMEOUT = 9.0
"""Seconds; GitHub itself gives up after 10."""
LABELED = "labeled"
"""The action that makes a request."""
_DROPPED = ("host", "content-length", "connection", "accept-encoding")


class Network:
    """`passages` by the title of the issue that a webhook tells of; all others go straight."""

    def __init__(self, ingest: str, passages: Mapping[str, Passage]) -> None:
        self._ingest = ingest
        self._passages = passages
        fresh = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, limits=fresh)
        self.guids: dict[str, str] = {}
        """Of the webhooks that were disturbed, by title."""
        self.doubled = self.held = self.lost = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """The address for GitHub."""
        app = Starlette(routes=[Route("/webhooks/github", self._carry, methods=["POST"])])
        async with self._http, running(app) as url:
            yield f"{url}/webhooks/github"

    async def _carry(self, request: Request) -> Response:
        body = await request.body()
        passage = self._passage(request.headers["x-github-delivery"], json.loads(body))
        await asyncio.sleep(passage.hold)
        self.held += passage.hold > 0
        self.doubled += passage.copies - 1
        headers = {k: v for k, v in request.headers.items() if k not in _DROPPED}
        copies = [self._hand_over(body, headers) for _ in range(passage.copies)]
        answers = await asyncio.gather(*copies)
        if passage.answer_lost:
            self.lost += 1
            return Response("the answer was lost", 502)
        return answers[0]

    def _passage(self, guid: str, payload: Mapping[str, Any]) -> Passage:
        """A delivery is disturbed once; when it is sent again, it goes straight."""
        title = str((payload.get("issue") or {}).get("title", ""))
        if payload.get("action") != LABELED or title in self.guids:
            return Passage()
        self.guids[title] = guid
        return self._passages.get(title, Passage())

    async def _hand_over(self, body: bytes, headers: Mapping[str, str]) -> Response:
        try:
            answer = await self._http.post(self._ingest, content=body, headers=headers)
        except httpx.HTTPError as error:
            return Response(f"ingest is away: {type(error).__name__}", 502)
        return Response(answer.content, answer.status_code)
