"""What every request passes first: the request log and the faults that a test asked for."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from standin_github.faults import Fault
from standin_github.hub import Hub, RequestRecord

ADMIN = "/_standin"
SAFE = ("GET", "HEAD", "OPTIONS")


class Front:
    """The outermost ASGI layer, because a cut connection needs the server's own transport."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(ADMIN):
            await self._forward(scope, receive, send)
            return
        record = _record(scope)
        self._hub.requests.append(record)
        scope["standin.actor"] = "anonymous"
        started = time.monotonic()
        try:
            await self._disturbed(record, scope, receive, send)
        finally:
            record.actor = scope["standin.actor"]
            record.duration = round(time.monotonic() - started, 4)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["method"] not in SAFE:
                self._hub.dirty = True

    async def _disturbed(
        self, record: RequestRecord, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def recording_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"].append((b"x-github-request-id", record.id.encode()))
            await send(message)

        fault = self._hub.faults.take(record.method, record.path)
        if fault is None:
            await self._forward(scope, receive, recording_send)
            return
        record.fault = fault.id
        answer: list[Message] = []
        if fault.after or fault.truncate:
            await self._forward(scope, receive, _collect(record, answer))
        await asyncio.sleep(fault.delay)
        record.answer_lost = fault.truncate or (
            fault.after and (fault.drop or fault.status is not None)
        )
        if fault.truncate:
            await _break_off(answer, receive, send)
        elif fault.drop:
            _cut(receive)
        elif fault.status is not None:
            await _answer(fault, scope)(scope, receive, send if fault.after else recording_send)
        elif fault.after:
            for message in answer:
                await recording_send(message)
        else:
            await self._forward(scope, receive, recording_send)


def _record(scope: Scope) -> RequestRecord:
    query = scope["query_string"].decode("latin-1")
    path = scope["path"] + (f"?{query}" if query else "")
    return RequestRecord(uuid.uuid4().hex[:16], scope["method"], path, "anonymous", time.time())


def _collect(record: RequestRecord, answer: list[Message]) -> Send:
    async def send(message: Message) -> None:
        answer.append(message)
        if message["type"] == "http.response.start":
            record.status = message["status"]

    return send


def _answer(fault: Fault, scope: Scope) -> Response:
    body: Any = fault.body
    if fault.echo:
        body = {"message": f"Not with these headers: {_echoed(scope)}"}
    text = body if isinstance(body, str) else json.dumps(body or {"message": "Server Error"})
    return Response(
        text, fault.status or 500, fault.headers, media_type="application/json; charset=utf-8"
    )


def _echoed(scope: Scope) -> str:
    """The credential as it was sent, and what a client had encoded in it."""
    said = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    scheme, _, value = said.partition(" ")
    return f"{said} {base64.b64decode(value).decode()}" if scheme == "Basic" else said


async def _break_off(answer: list[Message], receive: Receive, send: Send) -> None:
    """Its headers as they are, the first half of its body, and the end of the connection."""
    start, *parts = answer
    body = b"".join(part.get("body", b"") for part in parts)
    await send(start)
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    _transport(receive).close()
    await asyncio.sleep(0)


def _cut(receive: Receive) -> None:
    """Reset the connection."""
    _transport(receive).abort()


def _transport(receive: Receive) -> asyncio.Transport:
    """ASGI has no word for it: uvicorn's cycle holds it."""
    cycle = getattr(receive, "__self__", None)
    transport: asyncio.Transport | None = getattr(cycle, "transport", None)
    if transport is None:
        raise RuntimeError("the server does not let its connection be cut")
    return transport
