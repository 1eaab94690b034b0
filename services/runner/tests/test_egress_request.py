"""What a request to the proxy means, decided without a connection."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import h11
import pytest

from patchwright_runner.egress.allowlist import Target
from patchwright_runner.egress.refusal import Refusal, answer
from patchwright_runner.egress.request import Wanted, named, receive, wanted

CONNECT = Wanted("CONNECT", Target("https", "pypi.org", 443))


async def read(text: str) -> h11.Request:
    reader = asyncio.StreamReader()
    reader.feed_data(text.encode("latin-1"))
    reader.feed_eof()
    request = await receive(h11.Connection(h11.SERVER), reader)
    assert request is not None
    return request


@pytest.mark.parametrize(
    "text",
    [
        "CONNECT pypi.org:443 HTTP/1.1\r\nHost: pypi.org:443\r\n\r\n",
        "CONNECT pypi.org:443 HTTP/1.1\r\nHost: pypi.org\r\nContent-Length: 0\r\n\r\n",
        "CONNECT pypi.org:443 HTTP/1.0\r\n\r\n",  # pip on Python 3.11
        "CONNECT PyPI.org.:443 HTTP/1.1\r\nHost: pypi.ORG:443\r\n\r\n",
    ],
)
async def test_connect_is_understood_as_clients_write_it(text: str) -> None:
    assert wanted(await read(text)) == CONNECT


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("http://a.example/x?y", Wanted("GET", Target("http", "a.example", 80), "/x?y")),
        ("http://a.example:8080/", Wanted("GET", Target("http", "a.example", 8080), "/")),
        ("http://a.example", Wanted("GET", Target("http", "a.example", 80), "/")),
        ("http://a.example?q", Wanted("GET", Target("http", "a.example", 80), "/?q")),
    ],
)
async def test_document_is_understood(target: str, found: Wanted) -> None:
    assert wanted(await read(f"GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")) == found


HOST = "Host: pypi.org\r\n"


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("CONNECT pypi.org HTTP/1.1", HOST, 400),
        ("CONNECT user@pypi.org:443 HTTP/1.1", HOST, 400),
        ("CONNECT pypi.org:443@evil.example:443 HTTP/1.1", HOST, 400),
        ("CONNECT https://pypi.org:443 HTTP/1.1", HOST, 400),
        ("CONNECT pypi.org%2eevil.example:443 HTTP/1.1", HOST, 400),
        ("CONNECT pypi.org\\.evil.example:443 HTTP/1.1", HOST, 400),
        ("CONNECT pypi.org:443 HTTP/1.1", "Host: evil.example\r\n", 400),
        ("CONNECT pypi.org:443 HTTP/1.1", "Host: pypi.org:8443\r\n", 400),
        ("CONNECT pypi.org:443 HTTP/1.1", HOST + "Content-Length: 5\r\n", 400),
        ("CONNECT pypi.org:443 HTTP/1.1", HOST + "Transfer-Encoding: chunked\r\n", 400),
        ("connect pypi.org:443 HTTP/1.1", HOST, 400),
        ("GET / HTTP/1.1", HOST, 400),
        ("GET //pypi.org/ HTTP/1.1", HOST, 400),
        ("GET https://pypi.org/ HTTP/1.1", HOST, 400),
        ("GET HTTP://pypi.org/ HTTP/1.1", HOST, 400),
        ("GET ftp://pypi.org/ HTTP/1.1", HOST, 400),
        ("GET http://pypi.org/#fragment HTTP/1.1", HOST, 400),
        ("GET http://user@pypi.org/ HTTP/1.1", HOST, 400),
        ("GET http://127.0.0.1/ HTTP/1.1", "Host: 127.0.0.1\r\n", 400),
        ("GET http:///path HTTP/1.1", HOST, 400),
        ("GET http://evil.example/ HTTP/1.1", HOST, 400),
        ("POST http://pypi.org/ HTTP/1.1", HOST + "Content-Length: 1\r\n", 405),
        ("OPTIONS * HTTP/1.1", HOST, 400),
        ("PRI * HTTP/2.0", "", 505),
        ("CONNECT pypi.org:443 HTTP/0.9", HOST, 505),
    ],
)
async def test_request_that_could_be_misread_is_refused(
    line: str, headers: str, status: int
) -> None:
    with pytest.raises(Refusal) as refused:
        wanted(await read(f"{line}\r\n{headers}\r\n"))
    assert refused.value.status == status


@pytest.mark.parametrize(
    "text",
    [
        "CONNECT pypi.org:443 HTTP/1.1\r\n\r\n",
        f"CONNECT pypi.org:443 HTTP/1.1\r\n{HOST}Host: evil.example\r\n\r\n",
        f"CONNECT pypi.org:443 HTTP/1.1\r\n{HOST}Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        f"CONNECT pypi.org:443 evil.example HTTP/1.1\r\n{HOST}\r\n",
        f"CONNECT pypi.org:443\x00.evil.example HTTP/1.1\r\n{HOST}\r\n",
        f"CONNECT pypi.org\t:443 HTTP/1.1\r\n{HOST}\r\n",
        "CONNECT pypi.org:443 HTTP/1.1\r\nHost : pypi.org\r\n\r\n",
        f"CONNECT \u0440\u0430\u0443\u0440\u0456.org:443 HTTP/1.1\r\n{HOST}\r\n".encode().decode(
            "latin-1"
        ),
        "\x16\x03\x01\x00\x05hello",
    ],
)
async def test_request_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        await read(text)
    assert refused.value.status in (400, 501, 505)
    assert refused.value.reason.isprintable()


async def test_silence_is_no_request() -> None:
    reader = asyncio.StreamReader()
    reader.feed_eof()
    assert await receive(h11.Connection(h11.SERVER), reader) is None


async def test_refused_host_is_shown_as_far_as_it_can_be_read() -> None:
    request = await read(f"CONNECT user@{'e' * 300}:443 HTTP/1.1\r\n{HOST}\r\n")
    assert named(request).startswith("user@eee")
    assert len(named(request)) <= 100
    assert named(await read(f"GET http://a.example/b HTTP/1.1\r\n{HOST}\r\n")) == "a.example"


def test_answer_says_why_in_its_status_line_too() -> None:
    head, body = answer(Refusal(HTTPStatus.FORBIDDEN, "No.", "Ask.")).decode().split("\r\n\r\n")
    assert head.startswith("HTTP/1.1 403 No.\r\n")
    assert body == "No.\nAsk.\n"
