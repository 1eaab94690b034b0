"""Both ends of the egress proxy for tests: a client in the box's place, and origins on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from patchwright_runner.egress import Allowlist, Egress, EgressLimits, Ledger, Pattern, Report
from patchwright_runner.egress.dialing import Resolver

Kind = TypeVar("Kind", bound=Report)

PATIENCE = 60.0
"""Seconds that nothing here takes."""
MIRROR = "mirror.example"
LOOPBACK = "127.0.0.1"


@dataclass
class Authority:
    """A certificate that is its own authority, for `names`."""

    file: Path
    client: ssl.SSLContext
    server: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path, *names: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test")])
        now = datetime.now(UTC)
        alternatives = [x509.DNSName(n) for n in names]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(key, hashes.SHA256())
        )
        file, key_file = folder / "ca.pem", folder / "key.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(file, key_file)
        return cls(file, ssl.create_default_context(cafile=file), server)


def start_of_tls(name: str | None, *, old: bool = False) -> bytes:
    """OpenSSL's hello; `old`: of TLS 1.2."""
    context = ssl.create_default_context()
    if name is None:
        context.check_hostname = False
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


@dataclass
class Origin:
    """A server that answers every request with its documents, or by what it was told to say."""

    documents: dict[str, bytes] = field(default_factory=dict)
    raw: bytes = b""
    """The whole answer to anything, instead."""
    port: int = 0
    connections: int = 0
    received: bytearray = field(default_factory=bytearray)

    @asynccontextmanager
    async def serving(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
        server = await asyncio.start_server(self._serve, LOOPBACK, 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        unanswered = b""
        try:
            while data := await reader.read(65536):
                self.received += data
                unanswered += data
                while b"\r\n\r\n" in unanswered:
                    head, unanswered = unanswered.split(b"\r\n\r\n", 1)
                    writer.write(self.raw or self._answer(head.split(b" ")[1].decode()))
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def _answer(self, path: str) -> bytes:
        body = self.documents.get(path)
        status, body = ("404 Not Found", b"") if body is None else ("200 OK", body)
        kind = "text/html" if path.endswith("/") else "application/octet-stream"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


@dataclass
class Names:
    """A resolver. Each name has its answers in turn; the last one stays."""

    answers: dict[str, list[Sequence[str]]]
    asked: list[str] = field(default_factory=list)

    async def addresses(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        given = self.answers.get(host)
        if not given:
            raise OSError("no such name")
        return given.pop(0) if len(given) > 1 else given[0]


@dataclass
class Tape:
    """Keeps reports; `failure` is raised instead."""

    reports: list[Report] = field(default_factory=list)
    failure: Exception | None = None

    async def __call__(self, report: Report) -> None:
        if self.failure is not None:
            raise self.failure
        await asyncio.sleep(0)  # a bus answers later
        self.reports.append(report)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [report for report in self.reports if isinstance(report, kind)]


@dataclass
class Client:
    """A connection to the proxy, as a program in the box has it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> str:
        """A response's status line and headers."""
        async with asyncio.timeout(PATIENCE):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def rest(self) -> bytes:
        """Everything until the proxy closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def asks(self, request: str) -> str:
        """The whole answer."""
        await self.send(request.encode("latin-1"))
        return (await self.rest()).decode()

    async def connect(self, authority: str) -> str:
        """The answer's head to CONNECT."""
        await self.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        return await self.head()

    async def tls(self, context: ssl.SSLContext, name: str) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.writer.start_tls(context, server_hostname=name)

    async def keeps_sending(self, data: bytes, pause: float = 0.0) -> None:
        """Until that fails."""
        async with asyncio.timeout(PATIENCE):
            while True:
                await self.send(data)
                await asyncio.sleep(pause)

    async def get(self, path: str = "/") -> str:
        await self.send(f"GET {path} HTTP/1.1\r\nHost: {MIRROR}\r\n\r\n".encode())
        return await self.head()


@dataclass
class Way:
    """A proxy that is served, and what its tests look at."""

    path: Path
    tape: Tape
    ledger: Ledger
    names: Names
    stack: AsyncExitStack

    async def client(self) -> Client:
        reader, writer = await asyncio.open_unix_connection(self.path)
        self.stack.callback(writer.close)
        return Client(reader, writer)

    async def asks(self, request: str) -> str:
        """What a client of its own gets for it."""
        return await (await self.client()).asks(request)

    async def connect(self, authority: str) -> str:
        return await (await self.client()).connect(authority)


@asynccontextmanager
async def way(
    *allowed: str,
    names: Resolver | None = None,
    private: Sequence[str] = (MIRROR,),
    limits: EgressLimits | None = None,
    tape: Tape | None = None,
) -> AsyncIterator[Way]:
    """A proxy for a job's agent. `mirror.example` lies on loopback, and may."""
    tape = tape or Tape()
    own = names if isinstance(names, Names) else Names({MIRROR: [[LOOPBACK]]})
    async with AsyncExitStack() as stack, Ledger(tape, limits) as ledger:
        egress = Egress(
            Allowlist.parse(allowed),
            ledger,
            purpose="agent",
            private=[Pattern.parse(name) for name in private],
            resolver=names or own,
        )
        async with egress.serving() as path:
            yield Way(path, tape, ledger, own, stack)
