"""A gateway between a client and a model's server that a test writes itself, or the stand-in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from patchwright_runner.gateway import Exchange, Gateway, GatewaySettings

KEY = "sk-the-real-key-0123456789abcdef"
MODEL = "claude-opus-5-5"
VERSION = {"anthropic-version": "2023-06-01"}
HEAD = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nanthropic-version: 2023-06-01\r\n"
HELLO = {"role": "user", "content": "Hello"}
PATIENT = 60.0
"""Seconds that a test waits for what must happen."""

Answer = Callable[[Request], Awaitable[Response]]


@dataclass
class Received:
    """What the model's server saw."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Stage:
    gateway: Gateway
    door: Path
    client: httpx2.AsyncClient
    received: list[Received]
    finished: list[Exchange] = field(default_factory=list)

    async def post(
        self, body: Any = None, path: str = "/v1/messages", **headers: str
    ) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body or asking()).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, content=content, headers={**VERSION, **named})

    async def begun(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that has read the beginning of a streamed answer."""
        body = json.dumps(asking(stream=True)).encode()
        reader, writer = await asyncio.open_unix_connection(self.door)
        writer.write(HEAD + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        await asyncio.wait_for(reader.readuntil(b"message_start"), PATIENT)
        return reader, writer

    async def raw(self, *pieces: bytes) -> bytes:
        """Bytes as they are, and all that comes back until the gateway closes or has answered."""
        reader, writer = await asyncio.open_unix_connection(self.door)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await asyncio.wait_for(reader.readuntil(b"}}"), PATIENT)
        except asyncio.IncompleteReadError as ended:
            return ended.partial
        finally:
            writer.close()


def asking(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 100, "messages": [HELLO], **changes}


def message(output: int = 5, **usage: int) -> dict[str, Any]:
    """A whole reply."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "Hi."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": output, **usage},
    }


def events(text: str = "Hi.", output: int = 5, **usage: int) -> list[bytes]:
    """A streamed reply."""
    start = {**message(1, **usage), "content": [], "stop_reason": None}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}}
    return [
        event("message_start", message=start),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event(**{**delta, "delta": {"type": "text_delta", "text": text}}),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": output}),
        event("message_stop"),
    ]


def event(type: str, **fields: Any) -> bytes:  # noqa: A002 - the events' own word
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n".encode()


def streamed(pieces: Iterable[bytes] | AsyncIterator[bytes], **headers: str) -> Response:
    return StreamingResponse(pieces, media_type="text/event-stream; charset=utf-8", headers=headers)


async def reply(request: Request) -> Response:
    """What a model's server usually answers."""
    if request.url.path.endswith("count_tokens"):
        return JSONResponse({"input_tokens": 7})
    asked = json.loads(await request.body())
    return streamed(events()) if asked.get("stream") else JSONResponse(message())


def server(answer: Answer, received: list[Received]) -> Starlette:
    """A model's server that answers everything in one way."""

    async def endpoint(request: Request) -> Response:
        raw = await request.body()
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        received.append(Received(target, dict(request.headers), raw))
        return await answer(request)

    return Starlette(routes=[Route("/{path:path}", endpoint, methods=["POST", "GET"])])


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Its URL. Without uvicorn's server, which takes a third of a second to stop."""
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(app, http="h11", lifespan="off", log_config=None, access_log=False)
    config.load()
    state = ServerState()
    listening = await loop.create_server(
        lambda: H11Protocol(config, state, {}, loop), "127.0.0.1", 0
    )
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        tasks = set(state.tasks)
        for connection in list(state.connections):
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def opened(
    url: str, received: list[Received], finished: Any = None, **changes: Any
) -> AsyncIterator[Stage]:
    """A gateway before the server at `url`."""
    settings: dict[str, Any] = {"base_url": url, "key": SecretStr(KEY), "model": MODEL, **changes}
    told: list[Exchange] = []

    async def tell(exchange: Exchange) -> None:
        told.append(exchange)
        if finished:
            await finished(exchange)

    gateway = Gateway(GatewaySettings(**settings), tell)
    async with gateway.serving() as door:
        transport = httpx2.AsyncHTTPTransport(uds=str(door), verify=False)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://model", timeout=PATIENT
        ) as client:
            yield Stage(gateway, door, client, received, told)


@asynccontextmanager
async def stage(answer: Answer = reply, **changes: Any) -> AsyncIterator[Stage]:
    """A gateway before a server that answers with `answer`."""
    received: list[Received] = []
    async with (
        served(server(answer, received)) as url,
        opened(url, received, **changes) as acting,
    ):
        yield acting


def error_of(response: httpx2.Response) -> dict[str, str]:
    """The error in Anthropic's shape."""
    body = response.json()
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    return dict(body["error"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT):
        while not condition():
            await asyncio.sleep(0.01)
