"""What a program in the sandbox asks the proxy for: read strictly, decided without I/O.

Where two readers could understand a request differently, it is refused; what is passed on is
written anew from what was understood. Nothing that follows a refused request is read.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus

import h11

from patchwright_runner.egress.allowlist import PORTS, Target
from patchwright_runner.egress.hosts import HostError, authority, shown
from patchwright_runner.egress.refusal import Refusal

_CHUNK = 4096
_ABSOLUTE = re.compile(r"http://([^/?#]*)((?:[/?][^#]*)?)")
_OWN = "This is a proxy: ask for https by CONNECT, or for an absolute http:// address."


@dataclass(frozen=True, slots=True)
class Wanted:
    """A connection for TLS (`path` is empty), or one document over plain HTTP."""

    method: str
    target: Target
    path: str = ""


async def receive(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The head of the first request, None if there is none. Raises `Refusal`."""
    try:
        while (event := http.next_event()) is h11.NEED_DATA:
            data = await reader.read(_CHUNK)
            if not data and http.trailing_data == (b"", False):
                return None
            http.receive_data(data)
    except h11.RemoteProtocolError as error:
        status = HTTPStatus(error.error_status_hint)
        raise Refusal(status, f"Not a request that can be read: {shown(str(error))}.") from None
    return event if isinstance(event, h11.Request) else None


def named(request: h11.Request) -> str:
    """The host that a request seems to be for, for the audit of those that are refused."""
    target = request.target.decode("ascii")
    found = re.match(r"(?:[A-Za-z]*://)?([^/?#]*)", target)
    return shown(found[1] if found else target)


def wanted(request: h11.Request) -> Wanted:
    """What is asked for. Raises `Refusal` for what is not understood in one way only."""
    if request.http_version not in (b"1.0", b"1.1"):
        reason = "Only HTTP/1.0 and HTTP/1.1 are spoken here."
        raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, reason)
    method, target = request.method.decode("ascii"), request.target.decode("ascii")
    try:
        found = _connect(target) if method == "CONNECT" else _plain(method, target)
        _check_host(request, found.target)
    except HostError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
    _check_no_body(request)
    return found


def _connect(text: str) -> Wanted:
    host, port = authority(text)
    if port is None:
        raise HostError("CONNECT needs a host and a port.")
    return Wanted("CONNECT", Target("https", host, port))


def _plain(method: str, text: str) -> Wanted:
    found = _ABSOLUTE.fullmatch(text)
    if found is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, _OWN)
    if method not in ("GET", "HEAD"):
        reason = "Over plain http only GET and HEAD are allowed: use https."
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason)
    host, port = authority(found[1])
    path = found[2] if found[2].startswith("/") else f"/{found[2]}"
    return Wanted(method, Target("http", host, port or PORTS["http"]), path)


def _check_host(request: h11.Request, target: Target) -> None:
    """h11 has seen to it that there is one at most."""
    for name, value in request.headers:
        if name == b"host":
            host, port = authority(value.decode("latin-1"))
            if host != target.host or port not in (None, target.port):
                raise HostError("The Host header is of another host than the request.")


def _check_no_body(request: h11.Request) -> None:
    for name, value in request.headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            raise Refusal(HTTPStatus.BAD_REQUEST, "This request may not have a body.")
