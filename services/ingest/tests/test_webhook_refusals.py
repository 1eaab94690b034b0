"""What is not a verified delivery gets a status and a reason, and reaches no stream."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from harness.nats import bus as connect
from harness.nats import nats_server
from patchwright_common.bus import Bus
from patchwright_ingest import webhook

from .webhooks import ISSUE, SECRET, Endpoint, endpoint, headers, signature, stored
from .webhooks import without_stack_trace as reason

SHA1 = "sha1=" + hmac.new(SECRET.encode(), ISSUE, "sha1").hexdigest()

MALFORMED = {
    "nothing": b"",
    "not JSON": b"{",
    "a form": b"payload=%7B%7D",
    "a list": b"[]",
    "a string": b'"issues"',
    "null": b"null",
    "not UTF-8": b'{"action": "\xff"}',
    "UTF-16": '{"action": "opened"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "nested too deep": b'{"a":' + b"[" * 200_000,
    "a number that Python refuses": b'{"repository": {"id": ' + b"9" * 5000 + b"}}",
}
ODD_HEADERS: dict[str, tuple[int, dict[str, str | None]]] = {
    "no event": (400, {"x_github_event": None}),
    "an empty event": (400, {"x_github_event": ""}),
    "an event with dots": (400, {"x_github_event": "issues.opened.7"}),
    "an event with a wildcard": (400, {"x_github_event": "*"}),
    "an event in capitals": (400, {"x_github_event": "Issues"}),
    "an endless event": (400, {"x_github_event": "a" * 65}),
    "no delivery id": (400, {"x_github_delivery": None}),
    "a delivery id with spaces": (400, {"x_github_delivery": "a b"}),
    "an endless delivery id": (400, {"x_github_delivery": "a" * 65}),
    "no signature": (401, {"x_hub_signature_256": None}),
    "an empty signature": (401, {"x_hub_signature_256": ""}),
    "sha1 only": (401, {"x_hub_signature_256": None, "x_hub_signature": SHA1}),
    "sha1 in its place": (401, {"x_hub_signature_256": SHA1}),
    "another secret": (401, {"x_hub_signature_256": signature(ISSUE, "other")}),
    "an empty secret": (401, {"x_hub_signature_256": signature(ISSUE, "")}),
    "another body": (401, {"x_hub_signature_256": signature(b"{}")}),
    "a cut signature": (401, {"x_hub_signature_256": signature(ISSUE)[:-1]}),
    "no algorithm": (401, {"x_hub_signature_256": signature(ISSUE)[7:]}),
    "a form's content type": (415, {"content_type": "application/x-www-form-urlencoded"}),
    "text": (415, {"content_type": "text/plain"}),
    "no content type": (415, {"content_type": None}),
    "JSON by another name": (415, {"content_type": "application/jsonp"}),
    "an odd charset is no matter, the signature is": (
        401,
        {"content_type": "Application/JSON; charset=utf-8", "x_hub_signature_256": "sha256=0"},
    ),
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="bus")
async def _bus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bus]:
    """One for all: nothing that this module sends is ever stored."""
    async with nats_server(tmp_path_factory.mktemp("nats")) as server, connect(server.url) as bus:
        yield bus


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="serving")
async def _serving(bus: Bus) -> AsyncIterator[Endpoint]:
    async with endpoint(bus) as running:
        yield running


@pytest.fixture(name="ingest")
def _ingest(serving: Endpoint) -> Endpoint:
    serving.secret = SecretStr(SECRET)
    return serving


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_is_stored(bus: Bus) -> AsyncIterator[None]:
    """Whatever a test of this module sends, no stream has it in the end."""
    yield
    assert await stored(bus) == []


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_signed_body_that_is_not_a_json_object_is_400(ingest: Endpoint, body: bytes) -> None:
    answer = await ingest.post(body)
    assert answer.status_code == 400
    assert "JSON" in reason(answer.text)["error"]


@pytest.mark.parametrize(("status", "changed"), ODD_HEADERS.values(), ids=ODD_HEADERS)
async def test_odd_headers_are_refused(
    ingest: Endpoint, status: int, changed: dict[str, str | None]
) -> None:
    answer = await ingest.post(ISSUE, **changed)
    assert answer.status_code == status
    reason(answer.text)


async def test_changed_byte_anywhere_in_the_body_is_401(ingest: Endpoint) -> None:
    signed = signature(ISSUE)
    for position in range(len(ISSUE)):
        body = bytearray(ISSUE)
        body[position] ^= 1
        answer = await ingest.post(bytes(body), x_hub_signature_256=signed)
        assert answer.status_code == 401


async def test_signature_covers_bytes_and_not_their_meaning(ingest: Endpoint) -> None:
    same = ISSUE.replace(b": ", b":")
    answer = await ingest.post(same, x_hub_signature_256=signature(ISSUE))
    assert answer.status_code == 401


async def test_ping_is_answered_only_when_verified(ingest: Endpoint) -> None:
    assert (await ingest.post(b"{}", x_github_event="ping")).json() == {"status": "pong"}
    unsigned = await ingest.post(b"{}", x_github_event="ping", x_hub_signature_256="sha256=0")
    assert unsigned.status_code == 401
    malformed = await ingest.post(b"[]", x_github_event="ping")
    assert malformed.status_code == 400


async def test_announced_size_over_the_limit_is_413_before_the_body_comes(
    ingest: Endpoint,
) -> None:
    head = _head(headers(content_length=str(webhook.BODY_LIMIT + 1)))
    assert b" 413 " in (await ingest.raw(head))[:20]


@pytest.mark.parametrize("length", ["9" * 19, "-1", "1e3", "0x10", "²", "1, 2"])
async def test_odd_content_length_is_refused(ingest: Endpoint, length: str) -> None:
    answer = await ingest.raw(_head(headers(content_length=length)))
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413")


async def test_chunked_body_over_the_limit_is_413(ingest: Endpoint) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(webhook.BODY_LIMIT // 2**20 + 2):
            yield b" " * 2**20

    answer = await ingest.http.post("/webhooks/github", content=pieces(), headers=headers())
    assert answer.status_code == 413
    reason(answer.text)


async def test_endless_body_is_cut_off(ingest: Endpoint) -> None:
    """The sender may see the answer or a reset, but it cannot keep the endpoint reading."""
    _, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
    writer.write(_head(headers(transfer_encoding="chunked")))
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 8 * webhook.BODY_LIMIT:
            writer.write(b"100000\r\n" + b" " * 2**20 + b"\r\n")
            await writer.drain()
            sent += 2**20
    writer.close()
    assert sent < 5 * webhook.BODY_LIMIT


async def test_signed_chunked_body_is_read_like_any_other(ingest: Endpoint) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in b"{}":
            yield bytes([byte])

    sent = headers(b"{}", x_github_event="ping")
    answer = await ingest.http.post("/webhooks/github", content=pieces(), headers=sent)
    assert answer.json() == {"status": "pong"}


async def test_body_of_exactly_the_limit_is_read(ingest: Endpoint) -> None:
    body = b" " * webhook.BODY_LIMIT
    assert (await ingest.post(body)).status_code == 400  # no JSON, so it was read to its end
    assert (await ingest.post(body + b" ")).status_code == 413
    assert (await ingest.post(body + body[:5_000_000])).status_code == 413


async def test_body_that_trickles_is_408(bus: Bus) -> None:
    async with endpoint(bus, body_timeout=0.3) as ingest:
        head = _head(headers(content_length="100"))
        started = time.monotonic()
        answer = await ingest.raw(head, b"{", b'"')
        assert b" 408 " in answer[:20]
        assert time.monotonic() - started < 8  # the usual limit is 10
        assert (await ingest.http.get("/healthz")).status_code == 200


async def test_body_that_is_cut_off_leaves_the_endpoint_well(ingest: Endpoint) -> None:
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
        writer.write(_head(headers(content_length="100")) + b"{")
        await writer.drain()
        writer.close()
    assert (await ingest.http.get("/readyz")).status_code == 200


async def test_other_paths_and_methods_are_404_and_405_in_json(ingest: Endpoint) -> None:
    for path in ("/", "/webhooks", "/webhooks/github/x", "/webhooks/gitlab", "/docs"):
        answer = await ingest.http.post(path, content=ISSUE, headers=headers())
        assert answer.status_code == 404
        reason(answer.text)
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = await ingest.http.request(method, "/webhooks/github")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        reason(answer.text)


async def test_nothing_is_taken_in_while_the_secret_is_not_known(ingest: Endpoint) -> None:
    ingest.secret = None
    answer = await ingest.post(ISSUE, x_hub_signature_256=signature(ISSUE, ""))
    assert answer.status_code == 503
    reason(answer.text)
    assert (await ingest.http.get("/readyz")).status_code == 503
    assert (await ingest.http.get("/healthz")).status_code == 200


HEADER_TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40
)
HEADER_NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
NAMES = ("content_type", "x_github_event", "x_github_delivery", "x_hub_signature_256")
FRAMING = {"host", "connection", "transfer-encoding", "content-length", "expect", "upgrade"}


@given(
    body=st.binary(max_size=200) | st.just(ISSUE),
    changed=st.dictionaries(st.sampled_from(NAMES), st.none() | HEADER_TEXT),
    extra=st.dictionaries(HEADER_NAME, HEADER_TEXT, max_size=5),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_whatever_is_sent_unsigned_is_refused_with_a_reason(
    ingest: Endpoint, body: bytes, changed: dict[str, str | None], extra: dict[str, str]
) -> None:
    sent = headers(body, **({"x_hub_signature_256": "sha256=" + "0" * 64} | changed))
    sent |= {k: v for k, v in extra.items() if k.lower() not in FRAMING}
    sent |= {"Content-Length": str(len(body)), "Connection": "close"}
    head, _, text = (await ingest.raw(_head(sent) + body)).partition(b"\r\n\r\n")
    assert 400 <= int(head.split()[1]) < 500
    reason(text.decode())


@given(body=st.binary(max_size=100) | st.text(max_size=50).map(str.encode), event=HEADER_TEXT)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_signed_nonsense_is_refused_with_a_reason(
    ingest: Endpoint, body: bytes, event: str
) -> None:
    sent = headers(body, x_github_event=event) | {"Content-Length": str(len(body))}
    answer = await ingest.raw(_head(sent) + body)
    assert answer.startswith(b"HTTP/1.1 400")


def _head(sent: dict[str, str]) -> bytes:
    lines = ["POST /webhooks/github HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in sent.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
