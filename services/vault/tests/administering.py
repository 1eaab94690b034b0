"""A vault without a single secret, its operator, and GitHub's conversion as it is documented."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from nats.aio.msg import Msg

from harness.nats import NatsServer
from harness.programs import Program, program
from patchwright_common import requests
from patchwright_common.bus import Bus
from patchwright_common.credentials import Reply, Vault

OWN = {"mark-key", "transport-key"}
READY = r'"text": "ready'


def rsa_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class Operator:
    """What the set-up pages and the commands do with a running vault."""

    bus: Bus
    program: Program
    changes: list[str] = field(default_factory=list)

    @property
    def vault(self) -> Vault:
        return Vault(self.bus, requests.SETUP)

    async def told(self, verb: str, **body: Any) -> str:
        """The value of a sealed request."""
        return (await self.vault.tell(verb, body)).value or ""

    async def asked(self, verb: str, **body: Any) -> str:
        return (await self.vault.ask(verb, body)).value or ""

    async def reply(self, verb: str, body: dict[str, Any], *, sealed: bool = True) -> Reply:
        """Errors included."""
        key = bytes.fromhex(await self.asked("key")) if sealed else b""
        return await self.vault.exchange(verb, json.dumps(body), seal_to=key)

    async def put(self, name: str, value: str) -> str:
        return await self.told("put", name=name, value=value)

    async def names(self) -> list[str]:
        """Of what was brought; the vault's own keys are there from the start."""
        listing = json.loads(await self.asked("list"))
        return sorted({record["name"] for record in listing} - OWN)

    async def check(self, what: str) -> tuple[bool, str, str]:
        found = json.loads(await self.asked("check", what=what))
        return found["ok"], found["detail"], found["advice"]


@asynccontextmanager
async def administering(
    nats: NatsServer, bus: Bus, folder: Path, **more: str
) -> AsyncIterator[Operator]:
    """`more` are further variables of the vault."""
    environment = {
        **nats.environment("vault"),
        "PATCHWRIGHT_VAULT_KEY_FILE": str(folder / "vault.key"),
        "PATCHWRIGHT_LOG_LEVEL": "DEBUG",
        **more,
    }
    async with program("patchwright-vault", environment=environment) as vault:
        await vault.line(READY)
        operator = Operator(bus, vault)

        async def note(message: Msg) -> None:
            operator.changes.append(message.data.decode())

        subscription = await bus.client.subscribe(requests.CHANGED, cb=note)
        yield operator
        await subscription.unsubscribe()


def conversion(**other: Any) -> dict[str, Any]:
    """GitHub's answer (docs.github.com/rest/apps/apps#create-a-github-app-from-a-manifest)."""
    name = f"app-{uuid4().hex[:8]}"
    return {
        "id": 41,
        "slug": name,
        "node_id": "MDM6QXBwNDE=",
        "owner": {"login": "octo-org", "id": 7, "type": "Organization"},
        "name": name,
        "html_url": f"https://github.example/apps/{name}",
        "permissions": {"metadata": "read"},
        "events": ["issues"],
        "client_id": "Iv1.8a61f9b3a7aba766",
        "client_secret": "1726be1638095a19edd134c77bde3aa2ece1e5d8",
        "webhook_secret": uuid4().hex,
        "pem": rsa_pem(),
    } | other


@dataclass
class Manifests:
    """GitHub's side of the conversion: each code is good once. `raw` answers come as they are."""

    url: str = ""
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    before_answer: Callable[[], Any] | None = None
    answering: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answering.set()

    def code(self, **other: Any) -> str:
        """A fresh one."""
        code = uuid4().hex
        self.codes[code] = conversion(**other)
        return code

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n")).decode()
        await reader.readuntil(b"\r\n\r\n")
        method, path, _ = line.split()
        self.asked.append(f"{method} {path}")
        code = path.split("/")[-2] if path.endswith("/conversions") else ""
        answer = self._answer(method, code)
        if self.before_answer:
            await self.before_answer()
        await self.answering.wait()
        writer.write(answer)
        await writer.drain()
        writer.close()

    def _answer(self, method: str, code: str) -> bytes:
        if code in self.raw:
            return self.raw[code]
        if method == "POST" and code in self.codes:
            return http(201, self.codes.pop(code))
        return http(404, {"message": "Not Found", "status": "404"})


def http(status: int, body: Any, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(content)}", *headers]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + content


@asynccontextmanager
async def manifests() -> AsyncIterator[Manifests]:
    """Spoken byte by byte, because half an answer is one of the tests."""
    github = Manifests()
    server = await asyncio.start_server(github.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    github.url = f"http://127.0.0.1:{port}/api/v3"
    async with server:
        yield github


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
