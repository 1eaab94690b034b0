"""A hostile program in the box against the proxy: each attack beside its harmless twin."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from patchwright_runner.egress import Allowed, Refused
from patchwright_runner.egress.dialing import SystemResolver

from .egress_parts import LOOPBACK, MIRROR, Authority, Names, Origin, Way, way

OTHER = "evil.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"), MIRROR, OTHER)


@pytest.fixture
async def origin(authority: Authority) -> AsyncIterator[Origin]:
    async with Origin({"/": b"hello"}).serving(authority.server) as served:
        yield served


@pytest.fixture
async def web() -> AsyncIterator[Origin]:
    async with Origin({"/": b"hello"}).serving() as served:
        yield served


async def fetches(proxy: Way, origin: Origin, authority: Authority, host: str = MIRROR) -> bool:
    """Whether an honest client has its document."""
    client = await proxy.client()
    if not (await client.connect(f"{host}:{origin.port}")).startswith("HTTP/1.1 200 "):
        return False
    await client.tls(authority.client, MIRROR)
    return (await client.get()).startswith("HTTP/1.1 200 OK")


async def test_host_in_other_spellings_is_the_allowed_host(
    origin: Origin, authority: Authority
) -> None:
    async with way(f"{MIRROR}:{origin.port}") as proxy:
        for spelling in (MIRROR, MIRROR.upper(), f"{MIRROR}."):
            assert await fetches(proxy, origin, authority, spelling)
        assert proxy.tape.of(Allowed) == [Allowed("agent", MIRROR, origin.port)]


@pytest.mark.parametrize(
    "trick",
    [
        "{mirror}@{other}:{port}",
        "{mirror}:{port}@{other}:{port}",
        "{other}:{port}",
        "{mirror}.{other}:{port}",
        "x{mirror}:{port}",
        "xn--mrror-n2e.example:{port}",
        "{mirror}%00.{other}:{port}",
        "{mirror}\\.{other}:{port}",
        "{mirror}/.{other}:{port}",
        "{mirror}..:{port}",
        "127.0.0.1:{port}",
        "2130706433:{port}",
        "0x7f.1:{port}",
        "0177.0.0.1:{port}",
        "127.1:{port}",
        "[::1]:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "[::1%25lo]:{port}",
        "localhost:{port}",
    ],
)
async def test_trick_with_the_host_reaches_nothing(
    origin: Origin, authority: Authority, trick: str
) -> None:
    names = Names({MIRROR: [[LOOPBACK]], OTHER: [[LOOPBACK]], "localhost": [[LOOPBACK]]})
    async with way(f"{MIRROR}:{origin.port}", names=names, private=[MIRROR, OTHER]) as proxy:
        assert await fetches(proxy, origin, authority)
        client = await proxy.client()
        host = trick.format(mirror=MIRROR, other=OTHER, port=origin.port)
        assert (await client.connect(host)).startswith(("HTTP/1.1 400 ", "HTTP/1.1 403 "))
        assert names.asked == [MIRROR]
        assert len(proxy.tape.of(Refused)) == 1
    assert origin.connections == 1


async def test_homograph_is_another_host(origin: Origin, authority: Authority) -> None:
    homograph = "m\u0456rror.example".encode("idna").decode()
    async with way(f"{MIRROR}:{origin.port}") as proxy:
        assert await fetches(proxy, origin, authority)
        assert "403" in await proxy.connect(f"{homograph}:{origin.port}")
        assert [r.host for r in proxy.tape.of(Refused)] == ["xn--mrror-n2e.example"]


async def test_refused_host_is_not_even_looked_up() -> None:
    """A name can carry data out to whoever answers for its domain."""
    async with way("*.example.com") as proxy:
        assert "403" in await proxy.connect("secret.evil.example:443")
        assert proxy.names.asked == []
        assert "502" in await proxy.connect("a.example.com:443")
        assert proxy.names.asked == ["a.example.com"]


async def test_dns_rebinding_finds_the_name_looked_up_once(
    origin: Origin, authority: Authority
) -> None:
    """The second answer leads to a server that must not be reached, and the first one not."""
    names = Names({MIRROR: [[LOOPBACK], ["127.0.0.2"]]})
    async with way(f"{MIRROR}:{origin.port}", names=names) as proxy:
        assert await fetches(proxy, origin, authority)
        assert names.asked == [MIRROR]
    names = Names({MIRROR: [[LOOPBACK], ["169.254.169.254"]]})
    async with way(f"{MIRROR}:{origin.port}", names=names) as proxy:
        assert await fetches(proxy, origin, authority)
        assert "nobody may reach" in await proxy.connect(f"{MIRROR}:{origin.port}")


@pytest.mark.parametrize("address", [LOOPBACK, "10.0.0.1", "::1", "fd00::1", "100.64.0.1"])
async def test_allowed_name_cannot_lead_into_a_private_network(
    origin: Origin, authority: Authority, address: str
) -> None:
    """Unless the operator said that it lies there."""
    async with way(f"{MIRROR}:{origin.port}") as proxy:
        assert await fetches(proxy, origin, authority)
    names = Names({MIRROR: [[address]]})
    async with way(f"{MIRROR}:{origin.port}", names=names, private=[]) as proxy:
        answer = await proxy.connect(f"{MIRROR}:{origin.port}")
        assert answer.startswith("HTTP/1.1 403 mirror.example leads into a private network.")
    assert origin.connections == 1


async def test_localhost_is_private_by_the_machines_own_resolver(web: Origin) -> None:
    request = f"GET http://localhost:{web.port}/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for private, answered in ((["localhost"], "200 OK"), ([], "leads into a private network")):
        resolver = SystemResolver()
        async with way(f"http://localhost:{web.port}", names=resolver, private=private) as proxy:
            assert answered in await proxy.asks(request)


@pytest.mark.parametrize(
    "addresses",
    [
        ["169.254.169.254"],
        ["::ffff:169.254.169.254"],
        ["0.0.0.0"],  # noqa: S104 - an address to refuse
        [LOOPBACK, "169.254.169.254"],
    ],
)
async def test_cloud_metadata_is_out_of_reach_even_for_a_private_host(
    origin: Origin, authority: Authority, addresses: list[str]
) -> None:
    names = Names({MIRROR: [addresses, [LOOPBACK]]})
    async with way(f"{MIRROR}:{origin.port}", names=names) as proxy:
        assert "HTTP/1.1 403 " in await proxy.connect(f"{MIRROR}:{origin.port}")
        assert await fetches(proxy, origin, authority)


async def test_connect_to_another_port_is_refused(origin: Origin, authority: Authority) -> None:
    async with way(f"{MIRROR}:{origin.port}") as proxy:
        assert await fetches(proxy, origin, authority)
        for port in (22, 80, 443, origin.port - 1):
            assert "403" in await proxy.connect(f"{MIRROR}:{port}")


async def test_tls_for_another_host_does_not_leave(origin: Origin, authority: Authority) -> None:
    """Behind one address of a CDN are the allowed host and everybody else's."""
    async with way(f"{MIRROR}:{origin.port}") as proxy:
        assert await fetches(proxy, origin, authority)
        client = await proxy.client()
        await client.connect(f"{MIRROR}:{origin.port}")
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            await client.tls(authority.client, OTHER)
        assert [refused.reason for refused in proxy.tape.of(Refused)] == [
            "The start of TLS is for another host: evil.example."
        ]


async def test_tls_without_a_name_does_not_leave(origin: Origin, authority: Authority) -> None:
    nameless = ssl.create_default_context(cafile=authority.file)
    nameless.check_hostname = False
    async with way(f"{MIRROR}:{origin.port}") as proxy:
        assert await fetches(proxy, origin, authority)
        client = await proxy.client()
        await client.connect(f"{MIRROR}:{origin.port}")
        with pytest.raises(ssl.SSLError):
            await client.tls(nameless, "")
    assert b"GET" in origin.received


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x01\x02"]
)
async def test_tunnel_for_something_else_than_tls_carries_nothing(
    web: Origin, origin: Origin, authority: Authority, data: bytes
) -> None:
    async with way(f"{MIRROR}:{web.port}", f"{MIRROR}:{origin.port}") as proxy:
        assert await fetches(proxy, origin, authority)
        client = await proxy.client()
        assert "200" in await client.connect(f"{MIRROR}:{web.port}")
        await client.send(data)
        await client.rest()
        assert len(proxy.tape.of(Refused)) == 1
    assert web.received == b""


async def test_second_request_behind_a_refused_one_is_not_read(web: Origin) -> None:
    allowed = f"GET http://{MIRROR}:{web.port}/ HTTP/1.1\r\nHost: {MIRROR}\r\n\r\n"
    async with way(f"http://{MIRROR}:{web.port}") as proxy:
        assert (await proxy.asks(allowed)).endswith("hello")
        for refused in (
            f"CONNECT {OTHER}:443 HTTP/1.1\r\nHost: {OTHER}\r\n\r\n",
            f"GET http://{OTHER}/ HTTP/1.1\r\nHost: {OTHER}\r\n"
            f"Content-Length: {len(allowed)}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            answer = await proxy.asks(refused + allowed)
            assert answer.count("HTTP/1.1") == 1
            assert "hello" not in answer
    assert web.connections == 1


async def test_second_request_behind_a_document_is_not_passed_on(web: Origin) -> None:
    allowed = f"GET http://{MIRROR}:{web.port}/ HTTP/1.1\r\nHost: {MIRROR}\r\n\r\n"
    async with way(f"http://{MIRROR}:{web.port}") as proxy:
        assert (await proxy.asks(allowed + allowed)).count("HTTP/1.1") == 1
    assert web.received.count(b"GET") == 1


async def test_request_with_two_lengths_is_not_passed_on(web: Origin) -> None:
    start = f"GET http://{MIRROR}:{web.port}/ HTTP/1.1\r\nHost: {MIRROR}\r\n"
    async with way(f"http://{MIRROR}:{web.port}") as proxy:
        assert "200 OK" in await proxy.asks(f"{start}Content-Length: 0\r\n\r\n")
        both = f"{start}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        assert "400" in await proxy.asks(both)
    assert web.connections == 1


async def test_request_for_one_host_cannot_name_another(web: Origin) -> None:
    start = f"GET http://{MIRROR}:{web.port}/ HTTP/1.1\r\n"
    async with way(f"http://{MIRROR}:{web.port}") as proxy:
        assert "200 OK" in await proxy.asks(f"{start}Host: {MIRROR}:{web.port}\r\n\r\n")
        assert "400" in await proxy.asks(f"{start}Host: {OTHER}\r\n\r\n")
        assert "400" in await proxy.asks(f"{start}Host: {MIRROR}\r\nHost: {OTHER}\r\n\r\n")
    assert web.connections == 1


async def test_headers_for_the_proxy_stay_with_it(web: Origin) -> None:
    async with way(f"http://{MIRROR}:{web.port}") as proxy:
        await proxy.asks(
            f"GET http://{MIRROR}:{web.port}/?q HTTP/1.1\r\nHost: {MIRROR}\r\nAccept: x/y\r\n"
            "Proxy-Authorization: Basic eA==\r\nUpgrade: h2c\r\nConnection: Upgrade, X-Hop\r\n"
            "X-Hop: 1\r\n\r\n"
        )
    lines = web.received.decode().lower().split("\r\n")
    assert lines == [
        "get /?q http/1.1",
        f"host: {MIRROR}:{web.port}",
        "accept: x/y",
        "connection: close",
        "",
        "",
    ]


async def test_plain_http_needs_its_own_entry(web: Origin) -> None:
    request = f"GET http://{MIRROR}/ HTTP/1.1\r\nHost: {MIRROR}\r\n\r\n"
    async with way(MIRROR, f"http://{MIRROR}:{web.port}") as proxy:
        assert "use https" in await proxy.asks(request)
        port = request.replace(f"{MIRROR}/", f"{MIRROR}:{web.port}/")
        assert "200 OK" in await proxy.asks(port)


async def test_redirect_to_another_host_is_not_followed(web: Origin) -> None:
    web.raw = (
        f"HTTP/1.1 302 Found\r\nLocation: https://{OTHER}/\r\nContent-Length: 0\r\n\r\n".encode()
    )
    async with way(f"http://{MIRROR}:{web.port}") as proxy:
        request = f"GET http://{MIRROR}:{web.port}/ HTTP/1.1\r\nHost: {MIRROR}\r\n\r\n"
        assert f"https://{OTHER}/" in await proxy.asks(request)
        assert proxy.names.asked == [MIRROR]
        assert "403" in await proxy.connect(f"{OTHER}:443")
        assert [refused.host for refused in proxy.tape.of(Refused)] == [OTHER]


@pytest.mark.parametrize(
    "raw",
    [
        b"junk\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000,
    ],
)
async def test_answer_that_is_not_http_is_not_passed_on(web: Origin, raw: bytes) -> None:
    request = f"GET http://{MIRROR}:{web.port}/ HTTP/1.1\r\nHost: {MIRROR}\r\n\r\n"
    async with way(f"http://{MIRROR}:{web.port}") as proxy:
        assert "200 OK" in await proxy.asks(request)
        web.raw = raw
        assert "HTTP/1.1 502 " in await proxy.asks(request)


async def test_answer_with_two_lengths_is_written_anew(web: Origin) -> None:
    web.raw = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\n\r\n"
    )
    request = f"GET http://{MIRROR}:{web.port}/ HTTP/1.1\r\nHost: {MIRROR}\r\n\r\n"
    async with way(f"http://{MIRROR}:{web.port}") as proxy:
        head, body = (await proxy.asks(request)).lower().split("\r\n\r\n", 1)
    assert "content-length" not in head
    assert body == "5\r\nhello\r\n0\r\n\r\n"


async def test_refusal_says_what_is_allowed_and_how_to_ask() -> None:
    async with way("pypi") as proxy:
        answer = await proxy.asks(f"CONNECT {OTHER}:443 HTTP/1.1\r\nHost: {OTHER}\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 403 {OTHER} is not on this job's list of allowed hosts.")
    assert "Allowed for the agent of this job: pypi.org, files.pythonhosted.org." in answer
    assert "`egress`" in answer
    assert "operator" in answer


async def test_socket_belongs_to_the_runner_alone() -> None:
    async with way() as proxy:
        assert proxy.path.parent.stat().st_mode & 0o777 == 0o700
        assert len(str(proxy.path)) < 100
        folder = Path(proxy.path.parent)
    assert not folder.exists()
