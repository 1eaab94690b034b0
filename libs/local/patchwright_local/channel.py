"""A channel of smee.io, or of a server like it: GitHub posts there, and we listen.

Server-Sent Events: `ready` at the start, `ping` every 30 seconds, and for each delivery a
message whose data is one JSON object: the headers by their lower-case names beside `body`,
`query` and `timestamp` (github.com/probot/smee.io). The body was parsed on its way; gosmee
adds its bytes as `bodyB` in base64 (github.com/chmouel/gosmee), newer smee servers its text as
`rawbody`. The signature covers the bytes, so these come first. Otherwise the body is cut out
of the message as it stands there, which is how JavaScript's JSON.stringify wrote it: parsing
it and writing it anew could only change it further.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError, aconnect_sse

from patchwright_ingest.webhook import BODY_LIMIT, KEPT_HEADERS

SILENCE = 75.0
"""Seconds without a byte after which a connection counts as dead: two pings and a half."""
MESSAGE_LIMIT = 3 * BODY_LIMIT
"""Bytes of one message: a body as JSON and once more in base64."""
TIMEOUT = 10.0
"""Seconds for everything but listening."""
SMEE = "https://smee.io"
USER_AGENT = "patchwright-relay (as gosmee)"
"""A gosmee server streams to clients of its name only; the others do not care."""

_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}")
_EVENT_ID = re.compile(r"[!-~]{1,200}")
_HEADER_VALUE = re.compile(r"[!-~][ -~]{0,1023}")
_SPACE = re.compile(r"[ \t\n\r]*")
# Numbers stay text: Python refuses to read the very long ones, and nobody looks at them.
_VALUES = json.JSONDecoder(parse_int=str, parse_float=str)
_LINE_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")


class ChannelError(Exception):
    """No channel, or one that cannot be listened to. The text does not name it."""

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting
        """Trying again will not help: the address is wrong."""


class UnreadableError(Exception):
    """A message that is no delivery of GitHub's; the text says why, and quotes nothing."""


@dataclass(frozen=True)
class Delivery:
    """What GitHub sent. `exact`: the body's bytes came as they were."""

    id: str
    event: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    exact: bool


def read(data: str) -> Delivery:
    """The delivery of a message. Raises `UnreadableError`."""
    try:
        found = members(data)
        texts = {name: _text(found[name]) for name in KEPT_HEADERS if name in found}
        body, exact = _body(found)
    except (ValueError, RecursionError):
        raise UnreadableError("it is not in smee's format") from None
    headers = {name: text for name, text in texts.items() if _HEADER_VALUE.fullmatch(text)}
    number, event = headers.get("x-github-delivery", ""), headers.get("x-github-event", "")
    if not _ID.fullmatch(number) or not _EVENT.fullmatch(event):
        raise UnreadableError("it does not come from GitHub")
    if len(body) > BODY_LIMIT:
        raise UnreadableError(f"the body of {number} is larger than {BODY_LIMIT} bytes")
    return Delivery(number, event, headers, body, exact)


def members(text: str) -> dict[str, str]:
    """The members of a JSON object, each value as it was written. Raises `ValueError`."""
    found: dict[str, str] = {}
    at = _past(text, 0, "{")
    while text[at : at + 1] != "}":
        if found:
            at = _past(text, at, ",")
        # Were it no string, it would be no name that anybody looks for.
        name, at = _VALUES.raw_decode(text, at)
        at = _past(text, at, ":")
        _, end = _VALUES.raw_decode(text, at)
        found[str(name)] = text[at:end]
        at = _space(text, end)
    if _space(text, at + 1) != len(text):
        raise ValueError("more than an object")
    return found


def _past(text: str, at: int, mark: str) -> int:
    at = _space(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"no {mark}")
    return _space(text, at + 1)


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _text(value: str) -> str:
    found = json.loads(value) if value.startswith('"') else ""
    return found if isinstance(found, str) else ""


def _body(found: dict[str, str]) -> tuple[bytes, bool]:
    if encoded := _text(found.get("bodyB", "")):
        try:
            return base64.b64decode(encoded, validate=True), True
        except binascii.Error:
            raise ValueError("not base64") from None
    if raw := _text(found.get("rawbody", "")):
        return raw.encode(), True
    return found.get("body", "").encode(), False


@asynccontextmanager
async def subscribed(
    http: httpx.AsyncClient, url: str, last_event_id: str, *, silence: float = SILENCE
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    """The channel's messages from now on. Raises `ChannelError`, also while they come."""
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if _EVENT_ID.fullmatch(last_event_id):
        # smee.io counts anew for each connection; a server that keeps messages goes on there.
        headers["Last-Event-ID"] = last_event_id
    timeout = httpx.Timeout(TIMEOUT, read=silence)
    try:
        async with aconnect_sse(
            http, "GET", url, headers=headers, timeout=timeout, follow_redirects=True
        ) as source:
            _check(source.response)
            source.response.stream = _Bounded(source.response.stream)
            yield _messages(source)
    except httpx.ReadTimeout:
        raise ChannelError(f"nothing was heard for {silence:g} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        # Their texts name the address.
        raise ChannelError(type(error).__name__) from None


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if status != httpx.codes.OK:
        raise ChannelError(
            f"it answers {status}", lasting=400 <= status < 500 and status not in (408, 429)
        )
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream" or "content-encoding" in response.headers:
        raise ChannelError("it answers, but not with a stream of events", lasting=True)


async def _messages(source: EventSource) -> AsyncIterator[ServerSentEvent]:
    async for message in source.aiter_sse():
        yield message


class _Bounded(httpx.AsyncByteStream):
    """Ends a stream in which one message does not: everything before its end is in memory."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        if not isinstance(stream, httpx.AsyncByteStream):
            raise TypeError("an asynchronous stream is needed")
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, tail = 0, b""
        async for chunk in self._stream:
            size += len(chunk)
            tail += chunk
            if any(end in tail for end in _LINE_ENDS):
                size = 0
            tail = tail[-3:]
            if size > MESSAGE_LIMIT:
                raise SSEError("a message without an end")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def checked(url: str) -> str:
    """The channel's address. Raises `ChannelError` for what is none."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good or parts.path.strip("/") == "":
        raise ChannelError(f"the address of a channel looks like {SMEE}/your-channel", lasting=True)
    return url


def shown(url: str) -> str:
    """For logs: without what makes it this channel, because whoever knows that can listen too."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"


async def new(server: str = SMEE) -> str:
    """A fresh channel's address. Raises `ChannelError`."""
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT) as http:
            answer = await http.get(f"{server}/new", headers={"User-Agent": USER_AGENT})
    except httpx.HTTPError as error:
        raise ChannelError(f"{server} gave no channel: {type(error).__name__}") from None
    if not answer.is_redirect:
        raise ChannelError(f"{server} gave no channel: it answers {answer.status_code}")
    return checked(urljoin(f"{server}/", answer.headers["location"]))
