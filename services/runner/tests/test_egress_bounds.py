"""How much, how long and how many: each bound of the egress proxy, and that it ends in time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from patchwright_runner.egress import Allowlist, Egress, EgressLimits, Ended, Ledger, Refused
from patchwright_runner.egress.relay import patience

from .egress_parts import (
    LOOPBACK,
    MIRROR,
    PATIENCE,
    Authority,
    Client,
    Names,
    Origin,
    Tape,
    Way,
    start_of_tls,
    way,
)

SHORT = 0.2
"""Seconds, for a limit that a test waits for."""
KB = 1000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"), MIRROR)


@pytest.fixture
async def origin(authority: Authority) -> AsyncIterator[Origin]:
    served = Origin({"/": b"hello", "/large": bytes(300 * KB)})
    async with served.serving(authority.server):
        yield served


@pytest.fixture
async def web() -> AsyncIterator[Origin]:
    """Takes anything, TLS or not."""
    async with Origin().serving() as served:
        yield served


async def tunnelled(proxy: Way, origin: Origin, authority: Authority) -> Client:
    client = await proxy.client()
    assert "200" in await client.connect(f"{MIRROR}:{origin.port}")
    await client.tls(authority.client, MIRROR)
    return client


async def begun(proxy: Way, port: int, hello: bytes) -> Client:
    """A client that has sent CONNECT and what follows it."""
    client = await proxy.client()
    await client.send(f"CONNECT {MIRROR}:{port} HTTP/1.1\r\nHost: {MIRROR}\r\n\r\n".encode())
    await client.send(hello)
    return client


async def test_upload_ends_at_its_bound(origin: Origin, authority: Authority) -> None:
    async with way(f"{MIRROR}:{origin.port}", limits=EgressLimits(up_bytes=100 * KB)) as proxy:
        client = await tunnelled(proxy, origin, authority)
        assert "200 OK" in await client.get()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await client.keeps_sending(bytes(10 * KB))
        assert 0 < len(origin.received) < 100 * KB
        assert proxy.ledger.bytes_up <= 100 * KB
        (refused,) = proxy.tape.of(Refused)
        assert refused.reason == "This job has sent all that it may: 0.1 MB."


async def test_download_ends_at_its_bound(origin: Origin, authority: Authority) -> None:
    async with way(f"{MIRROR}:{origin.port}", limits=EgressLimits(down_bytes=100 * KB)) as proxy:
        client = await tunnelled(proxy, origin, authority)
        await client.get("/large")
        assert len(await client.rest()) < 100 * KB
        assert proxy.ledger.bytes_down <= 100 * KB
    async with way(f"{MIRROR}:{origin.port}") as proxy:
        client = await tunnelled(proxy, origin, authority)
        await client.get("/large")
        async with asyncio.timeout(PATIENCE):
            assert await client.reader.readexactly(300 * KB)


async def test_bounds_hold_for_the_whole_job(web: Origin) -> None:
    """All connections share them."""
    async with way(f"{MIRROR}:{web.port}", limits=EgressLimits(up_bytes=5 * KB)) as proxy:
        answer, count = b"200", 0
        while b"200" in answer:
            client = await begun(proxy, web.port, start_of_tls(MIRROR) + bytes(KB))
            client.writer.write_eof()
            answer, count = await client.rest(), count + 1
        assert answer.startswith(b"HTTP/1.1 403 This job has sent all that it may: 0.005 MB.")
        assert 2 < count < 7
    assert 3 * KB < len(web.received) <= 5 * KB


async def test_header_flood_is_refused() -> None:
    async with way(MIRROR) as proxy:
        start = "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example\r\n"
        few = await proxy.asks(f"{start}X: {'x' * 8000}\r\n\r\n")
        assert "other.example is not on" in few
        many = await proxy.asks(start + "X: y\r\n" * 20_000)
        assert many.startswith("HTTP/1.1 431 ")


async def test_request_line_without_an_end_is_refused() -> None:
    async with way(MIRROR) as proxy:
        assert (await proxy.asks("CONNECT " + "a" * 100_000)).startswith("HTTP/1.1 431 ")


async def test_slow_loris_is_cut_off() -> None:
    async with way(MIRROR, limits=EgressLimits(opening_seconds=SHORT)) as proxy:
        client = await proxy.client()
        answer = asyncio.create_task(client.head())
        async with asyncio.timeout(PATIENCE):
            while not answer.done():
                client.writer.write(b"C")
                await asyncio.sleep(SHORT / 10)
        assert (await answer).startswith("HTTP/1.1 408 ")


async def test_tunnel_in_which_tls_does_not_start_is_cut_off(web: Origin) -> None:
    limits = EgressLimits(opening_seconds=SHORT)
    async with way(f"{MIRROR}:{web.port}", limits=limits) as proxy:
        client = await begun(proxy, web.port, start_of_tls(MIRROR)[:-1])
        await client.rest()
    assert web.received == b""


async def test_silent_tunnel_is_cut_off(web: Origin) -> None:
    limits = EgressLimits(idle_seconds=SHORT)
    async with way(f"{MIRROR}:{web.port}", limits=limits) as proxy:
        client = await begun(proxy, web.port, start_of_tls(MIRROR))
        assert b"200" in await client.rest()


async def test_tunnel_that_is_used_outlasts_the_time_for_silence() -> None:
    loop = asyncio.get_running_loop()
    async with patience(3.0) as alive:
        end = loop.time() + 3.5
        while loop.time() < end:
            alive()
            await asyncio.sleep(0.05)


async def test_busy_tunnel_is_cut_off_when_its_time_is_over(web: Origin) -> None:
    limits = EgressLimits(connection_seconds=1.0, idle_seconds=PATIENCE)
    async with way(f"{MIRROR}:{web.port}", limits=limits) as proxy:
        client = await begun(proxy, web.port, start_of_tls(MIRROR))
        with pytest.raises(ConnectionError):
            await client.keeps_sending(b"x", SHORT / 10)


async def test_host_that_does_not_answer_is_given_up() -> None:
    class Never:
        async def addresses(self, _host: str) -> list[str]:
            await asyncio.Event().wait()
            return []

    ledger = Ledger(Tape(), EgressLimits(connect_seconds=SHORT))
    egress = Egress(Allowlist.parse([MIRROR]), ledger, purpose="set-up", resolver=Never())
    async with egress.serving() as path:
        reader, writer = await asyncio.open_unix_connection(path)
        answer = await Client(reader, writer).connect(f"{MIRROR}:443")
        writer.close()
    assert answer.startswith(f"HTTP/1.1 504 {MIRROR} could not be reached in 0.2 seconds.")


async def test_second_address_is_tried_when_the_first_does_not_answer(
    origin: Origin, authority: Authority
) -> None:
    names = Names({MIRROR: [["127.0.0.2", LOOPBACK]]})
    async with way(f"{MIRROR}:{origin.port}", names=names) as proxy:
        await tunnelled(proxy, origin, authority)


async def test_closed_port_is_said_to_be_closed_and_is_no_refusal(origin: Origin) -> None:
    async with way(f"{MIRROR}:1") as proxy:
        assert (await proxy.connect(f"{MIRROR}:1")).startswith(
            "HTTP/1.1 502 mirror.example:1 does not take connections."
        )
        assert proxy.tape.of(Refused) == []


async def test_connections_are_bounded_and_free_again_when_closed(
    origin: Origin, authority: Authority
) -> None:
    limits = EgressLimits(connections=3)
    async with way(f"{MIRROR}:{origin.port}", limits=limits) as proxy:
        clients = [await tunnelled(proxy, origin, authority) for _ in range(3)]
        assert (await proxy.asks("")).startswith("HTTP/1.1 503 There are 3 connections already.")
        clients[0].writer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            while "503" in await proxy.connect("other.example:443"):
                await asyncio.sleep(0.01)


async def test_everything_ends_with_the_proxy(origin: Origin, authority: Authority) -> None:
    """Also what neither reads nor answers."""
    tape = Tape()
    async with asyncio.timeout(PATIENCE):
        async with way(f"{MIRROR}:{origin.port}", tape=tape) as proxy:
            clients = [await proxy.client() for _ in range(3)]
            clients.append(await tunnelled(proxy, origin, authority))
            await clients[0].send(b"CONNECT ")
            assert "200" in await clients[1].connect(f"{MIRROR}:{origin.port}")
            await clients[3].send(b"GET /large HTTP/1.1\r\n\r\n" * 100)
        for client in clients:
            await client.rest()
    (ended,) = tape.of(Ended)
    assert [contact.connections for contact in ended.allowed] == [2]
    assert "egress connection" not in {task.get_name() for task in asyncio.all_tasks()}
