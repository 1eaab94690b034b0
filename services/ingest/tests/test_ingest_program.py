"""`patchwright-ingest` as its operator meets it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest

from harness.nats import NatsServer
from harness.programs import Program, program

from .chain import LISTENS, READY
from .webhooks import ISSUE, SECRET, headers


def ingest_program(nats: NatsServer, **more: str) -> AbstractAsyncContextManager[Program]:
    environment = nats.environment("ingest") | {"PATCHWRIGHT_INGEST_PORT": "0"} | more
    return program("patchwright-ingest", environment=environment)


def vault_program(
    nats: NatsServer, folder: Path, **more: str
) -> AbstractAsyncContextManager[Program]:
    own = {"PATCHWRIGHT_VAULT_KEY_FILE": str(folder / "vault.key")}
    return program("patchwright-vault", environment=nats.environment("vault") | own | more)


async def address(running: Program) -> str:
    return f"http://127.0.0.1:{(await running.line(LISTENS))[1]}"


async def test_ready_when_the_secret_is_known_and_not_before(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with ingest_program(nats) as ingest, httpx.AsyncClient() as http:
        url = await address(ingest)
        await ingest.line("waiting for the webhook secret: no answer")
        await assert_waiting(http, url)
        async with vault_program(nats, tmp_path):
            await ingest.line("waiting for the webhook secret: The vault holds no")
            await assert_waiting(http, url)
        async with vault_program(nats, tmp_path, PATCHWRIGHT_WEBHOOK_SECRET=SECRET):
            await ingest.line(READY)
        # The vault is gone again: what was learnt stays.
        assert (await http.get(f"{url}/readyz")).status_code == 200
        answer = await http.post(f"{url}/webhooks/github", content=ISSUE, headers=headers())
        assert answer.status_code == 202
        assert await ingest.stop() == 0
        assert not any(SECRET in line or "Traceback" in line for line in ingest.lines)


async def assert_waiting(http: httpx.AsyncClient, url: str) -> None:
    ready = await http.get(f"{url}/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "waiting for webhook secret"})
    assert (await http.get(f"{url}/healthz")).json() == {"status": "ok"}
    answer = await http.post(f"{url}/webhooks/github", content=ISSUE, headers=headers())
    assert answer.status_code == 503
    assert "error" in answer.json()


@pytest.mark.parametrize(
    ("trusted", "statuses"),
    [({}, [415, 429, 415]), ({"PATCHWRIGHT_TRUSTED_PROXIES": "192.0.2.0/24"}, [415, 429, 429])],
    ids=["loopback is, by default", "another network is"],
)
async def test_forwarded_address_is_believed_from_a_trusted_proxy_alone(
    nats: NatsServer, trusted: dict[str, str], statuses: list[int]
) -> None:
    few = {"PATCHWRIGHT_UNSIGNED_PER_SECOND": "0.01", "PATCHWRIGHT_UNSIGNED_BURST": "1"}
    async with ingest_program(nats, **few, **trusted) as ingest, httpx.AsyncClient() as http:
        url = f"{await address(ingest)}/webhooks/github"
        found = [
            (await http.post(url, headers={"X-Forwarded-For": client})).status_code
            for client in ("203.0.113.1", "198.51.100.9, 203.0.113.1", "203.0.113.2")
        ]
    assert found == statuses


async def test_taken_port_is_one_line(nats: NatsServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with ingest_program(nats, PATCHWRIGHT_INGEST_PORT=port) as ingest:
            assert await asyncio.wait_for(ingest.process.wait(), 10) == 1
    [line] = ingest.lines
    assert port in line
    assert "PATCHWRIGHT_INGEST_PORT" in line


async def test_delivery_under_way_is_answered_when_told_to_stop(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with (
        vault_program(nats, tmp_path, PATCHWRIGHT_WEBHOOK_SECRET=SECRET),
        ingest_program(nats) as ingest,
    ):
        url = await address(ingest)
        await ingest.line(READY)
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = ["POST /webhooks/github HTTP/1.1", "Host: x", f"Content-Length: {len(ISSUE)}"]
        lines += [f"{name}: {value}" for name, value in headers().items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + ISSUE[:10])
        await writer.drain()
        await asyncio.sleep(0.2)
        stopping = asyncio.create_task(ingest.stop())
        await asyncio.sleep(0.3)
        writer.write(ISSUE[10:])
        await writer.drain()
        assert (await reader.read(100)).startswith(b"HTTP/1.1 202")
        writer.close()
        assert await stopping == 0
