"""Requests that nobody would send, to every route of an application: the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from starlette.applications import Starlette
from starlette.routing import Route

METHODS = ("GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW")
TEXTS = (
    "", "0", "-1", "1e999", "9" * 400, "%", "%00", "\0", "..", "../../etc/passwd", "a/b", "?", "#",
    "'", '" onload=x', "<script>", "${{7*7}}", "{{7*7}}", "\ud800", "\u202e", "é", "🦊", "\r\nX: y",
    "null", "[]", "{}", "true", "2026-11-28T00:00:00Z", "1970", "A" * 5000,
)  # fmt: skip
NAMES = (
    "page", "limit", "service", "operation", "tags", "start", "end", "lookback", "minDuration",
    "maxDuration", "traceID", "prettyPrint", "state", "code", "owner", "name", "github", "token",
    "csrf", "key", "installation_id", "setup_action",
)  # fmt: skip
KINDS = (
    "application/json", "application/x-protobuf", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "multipart/form-data", "text/plain", "a/b; charset=nope", "",
)  # fmt: skip
HEADERS = (
    "content-encoding", "accept", "accept-encoding", "range", "if-none-match", "cookie", "origin",
    "x-forwarded-for", "x-forwarded-proto", "x-github-event", "x-github-delivery",
    "x-hub-signature-256", "traceparent", "tracestate", "baggage", "authorization",
)  # fmt: skip


@dataclass(frozen=True)
class Strange:
    """One request."""

    method: str
    url: str
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


def strange(app: Starlette, seed: int, count: int) -> Iterator[Strange]:
    """So many, over all routes of the application and some that it does not have."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    for _ in range(count):
        path = chance.choice([*paths, *paths, "/nowhere", "/static/{name:path}"])
        yield Strange(
            chance.choice(METHODS),
            _filled(chance, path) + _query(chance),
            _headers(chance),
            _body(chance),
        )


def _filled(chance: random.Random, path: str) -> str:
    return "/".join(
        _quoted(chance.choice(TEXTS)) if part.startswith("{") else part for part in path.split("/")
    )


def _query(chance: random.Random) -> str:
    if chance.random() < 0.4:
        return ""
    pairs = [(chance.choice(NAMES), _encodable(_text(chance))) for _ in range(chance.randint(1, 4))]
    return "?" + (urlencode(pairs) if chance.random() < 0.8 else _quoted(_text(chance)))


def _headers(chance: random.Random) -> list[tuple[bytes, bytes]]:
    found = [(b"content-type", chance.choice(KINDS).encode())]
    for name in chance.sample(HEADERS, chance.randint(0, 4)):
        value = bytes(byte for byte in _text(chance).encode(errors="replace") if byte >= 32)
        found.append((name.encode(), value[:1000]))
    return found


def _body(chance: random.Random) -> bytes:
    made: list[Any] = [
        b"",
        chance.randbytes(chance.randint(1, 400)),
        json.dumps({chance.choice(NAMES): _text(chance)}).encode(),
        b"[" * 10_000,
        urlencode([(chance.choice(NAMES), _encodable(_text(chance)))]).encode(),
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
    ]
    body = chance.choice(made)
    assert isinstance(body, bytes)
    return body


def _text(chance: random.Random) -> str:
    return chance.choice(TEXTS)


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _quoted(text: str) -> str:
    return quote(text.encode(errors="replace"), safe="")
