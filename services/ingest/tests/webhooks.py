"""Deliveries as GitHub sends them, the real endpoint to send them to, and what was stored."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from harness.stored import messages_of
from patchwright_common.bus import Bus
from patchwright_common.listening import Server, bound
from patchwright_ingest.admission import Limits
from patchwright_ingest.app import Ingest
from patchwright_ingest.rates import Rate

UNLIMITED = Limits(unsigned=Rate(0, 1), installation=Rate(0, 1))
"""No limit but on memory: most tests send whatever they like."""
SECRET = secrets.token_hex(20)
ISSUE = json.dumps({"action": "labeled", "repository": {"id": 7}, "issue": {"number": 1}}).encode()


def signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def headers(body: bytes = ISSUE, **changed: str | None) -> dict[str, str]:
    """GitHub's own; `x_github_event=None` leaves one out, another value replaces it."""
    given: dict[str, str | None] = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-GitHub-Event": "issues",
        "X-GitHub-Hook-ID": "292430182",
        "X-GitHub-Hook-Installation-Target-ID": "79929171",
        "X-GitHub-Hook-Installation-Target-Type": "integration",
        "X-Hub-Signature-256": signature(body),
    }
    names = {name.lower().replace("-", "_"): name for name in given}
    for name, value in changed.items():
        given[names.get(name, name.replace("_", "-"))] = value
    return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Stored:
    subject: str
    body: bytes
    headers: dict[str, str]


async def stored(bus: Bus, stream: str = "PW_GITHUB") -> list[Stored]:
    """Every message of a stream, oldest first."""
    return [
        Stored(message.subject or "", message.data or b"", message.headers or {})
        async for message in messages_of(bus.js, stream)
    ]


class Endpoint:
    """The running application; it is the source of its own secrets."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.secret: SecretStr | None = SecretStr(SECRET)
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False
        )

    def known(self) -> tuple[SecretStr, ...]:
        return () if self.secret is None else (self.secret,)

    async def doubt(self) -> bool:
        return False

    async def post(self, body: bytes = ISSUE, **changed: str | None) -> httpx.Response:
        return await self.http.post(
            "/webhooks/github", content=body, headers=headers(body, **changed)
        )

    async def raw(self, *pieces: bytes, timeout: float = 5.0) -> bytes:
        """Bytes as they are, and the answer until the server closes or stops talking."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await asyncio.wait_for(reader.readuntil(b"}"), timeout)
        except asyncio.IncompleteReadError as ended:
            return ended.partial
        finally:
            writer.close()


@asynccontextmanager
async def endpoint(
    bus: Bus, *, limits: Limits = UNLIMITED, body_timeout: float = 10.0
) -> AsyncIterator[Endpoint]:
    """The real application under uvicorn, as `patchwright-ingest` runs it."""
    with bound("127.0.0.1", 0, advice="") as listener:
        running = Endpoint(listener.getsockname()[1])
        app = Ingest(bus, running, limits=limits, body_timeout=body_timeout).app()
        server = Server(uvicorn.Config(app, log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            await asyncio.wait_for(server.listening.wait(), 10)
            yield running
        finally:
            await running.http.aclose()
            server.should_exit = True
            await serving


def padded(payload: dict[str, Any], size: int) -> bytes:
    """A JSON object of exactly that many bytes."""
    empty = len(json.dumps(payload | {"pad": ""}))
    return json.dumps(payload | {"pad": "x" * (size - empty)}).encode()


def without_stack_trace(text: str) -> dict[str, Any]:
    """The reason, as JSON and nothing that a sender should not see."""
    assert "Traceback" not in text
    assert ".py" not in text
    decoded = json.loads(text)
    assert set(decoded) == {"error"}
    assert decoded["error"]
    return dict(decoded)
