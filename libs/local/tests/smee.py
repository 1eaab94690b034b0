"""A server like smee.io, small and real: what GitHub posts to a channel, its listeners hear."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from patchwright_common.listening import Server, bound

Form = Callable[[bytes], dict[str, str]]
"""What becomes of a body in a message: members and the JSON of their values."""


def smee(body: bytes) -> dict[str, str]:
    """For bodies that JavaScript would write as they are."""
    return {"body": body.decode()}


def newer_smee(body: bytes) -> dict[str, str]:
    """The parsed body and its text beside it."""
    return reformatted(body) | {"rawbody": json.dumps(body.decode())}


def gosmee(body: bytes) -> dict[str, str]:
    return reformatted(body) | {"bodyB": json.dumps(base64.b64encode(body).decode())}


def reformatted(body: bytes) -> dict[str, str]:
    """A channel that changes what it passes on."""
    return {"body": json.dumps(json.loads(body), indent=1).replace("\n", " ")}


class Smee:
    """`form` says what messages look like; `status` other than 200 turns listeners away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.form: Form = smee
        self.status = 200
        self.kind = "text/event-stream"
        self.preamble = b"id: 0\nevent: ready\ndata: {}\n\n"
        self.last_event_ids: list[str] = []
        self.http = httpx.AsyncClient(trust_env=False, timeout=30)
        self._listening: dict[str, list[asyncio.Queue[bytes | None]]] = {}

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/new", self.new),
                Route("/{channel}", self.listen, methods=["GET"]),
                Route("/{channel}", self.post, methods=["POST"]),
            ]
        )

    async def new(self, _request: Request) -> Response:
        return RedirectResponse(f"{self.url}/{uuid4().hex}", 307)

    async def listen(self, request: Request) -> Response:
        if self.status != 200:
            return PlainTextResponse("no", self.status)
        self.last_event_ids.append(request.headers.get("last-event-id", ""))
        channel = request.path_params["channel"]
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._listening.setdefault(channel, []).append(queue)
        return StreamingResponse(self._stream(channel, queue), media_type=self.kind)

    async def _stream(
        self, channel: str, queue: asyncio.Queue[bytes | None]
    ) -> AsyncIterator[bytes]:
        try:
            yield self.preamble
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._listening[channel].remove(queue)

    async def post(self, request: Request) -> Response:
        """As smee.io builds it: the headers, then the rest."""
        own = {"query": "{}", "timestamp": str(int(time.time() * 1000))}
        found = {name: json.dumps(value) for name, value in request.headers.items()}
        found |= self.form(await request.body()) | own
        data = ",".join(f"{json.dumps(name)}:{value}" for name, value in found.items())
        self.say(request.path_params["channel"], "{" + data + "}", number=uuid4().hex)
        return Response()

    def say(self, channel: str, data: str, *, event: str = "", number: str = "1") -> None:
        """One message to all listeners."""
        name = f"event: {event}\n" if event else ""
        for queue in self._listening.get(channel, []):
            queue.put_nowait(f"id: {number}\n{name}data: {data}\n\n".encode())

    def drop(self) -> None:
        """End every connection."""
        for queues in self._listening.values():
            for queue in queues:
                queue.put_nowait(None)

    async def listened(self, channel: str, count: int = 1) -> None:
        """Return when that many listen."""
        async with asyncio.timeout(20):
            while len(self._listening.get(channel, [])) != count:
                await asyncio.sleep(0.02)

    async def deliver(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        """As GitHub does."""
        assert (await self.http.post(url, content=body, headers=headers)).status_code == 200


@asynccontextmanager
async def running_smee() -> AsyncIterator[Smee]:
    smee_like = Smee("")
    async with serving(smee_like.app()) as port:
        smee_like.url = f"http://127.0.0.1:{port}"
        try:
            yield smee_like
        finally:
            await smee_like.http.aclose()
            smee_like.drop()


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[int]:
    """The application's port."""
    with bound("127.0.0.1", 0, advice="") as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
        server = Server(config)
        running = asyncio.create_task(server.serve([listener]))
        try:
            await asyncio.wait_for(server.listening.wait(), 10)
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            with contextlib.suppress(asyncio.CancelledError):
                await running
