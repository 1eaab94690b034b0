"""Forms that none of the pages made: whatever is in them, the answer says so in plain words."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import WANTED, Pages
from .test_app_step import EXISTING, PEM

FORMS = ("/start", "/app", "/app/existing", "/app/again", "/model", "/finish")
PAGES = (*FORMS, "/", "/app/review", "/callback", "/install", "/installed", "/check", "/done")
FIELDS = sorted({"csrf", "token", "key", "key_file", *WANTED, *EXISTING})
FORM = "application/x-www-form-urlencoded"
PARTS = "multipart/form-data; boundary=b"
CHARSETS = ("", "utf-8", "utf-16", "utf-7", "unicode_escape", "undefined", "idna", "zlib", "a\0b")

known = st.sampled_from([value.encode() for value in {**WANTED, **EXISTING}.values()])
odd = st.sampled_from([
    b"", b"\0", b"\xff\xfe", b"\\ud800", "\ud800".encode("utf-8", "surrogatepass"), b"9" * 5000,
    b"https://a:99999", b"https://[", b"https://" + b"a" * 60_000 + b".com", b"http://a\0b.com",
    "https://e\u2100mple.com".encode(), PEM.encode().replace(b"AAAASECRET", b"\0" * 60_000),
    b"x" * 70_000,
])  # fmt: skip
values = known | odd | st.binary(max_size=40)
pairs = st.lists(st.tuples(st.sampled_from(FIELDS), values), max_size=9)


def urlencoded(fields: list[tuple[str, bytes]]) -> bytes:
    return "&".join(f"{name}={quote_from_bytes(value)}" for name, value in fields).encode()


def multipart(fields: list[tuple[str, bytes]], *, files: bool = False) -> bytes:
    named = b'; filename="f"' if files else b""
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        % (name.encode(), b"" if name == "csrf" else named, value)
        for name, value in fields
    ]
    return b"".join(parts) + b"--b--\r\n"


async def inside(pages: Pages) -> list[tuple[str, bytes]]:
    """Come in; the field that makes a form ours."""
    await pages.visitor.enter(pages.door.new_link())
    await pages.visitor.get("/app/existing")
    return [("csrf", pages.visitor.hidden()["csrf"].encode())]


async def sent(pages: Pages, path: str, body: bytes, kind: str) -> httpx.Response:
    headers = {"Origin": pages.visitor.origin, "Content-Type": kind}
    return await pages.visitor.client.post(path, content=body, headers=headers)


@pytest.mark.parametrize(
    ("path", "fields", "problem"),
    [
        ("/app", [], "Enter a name for the App"),
        ("/app", [("owner", b"organization")], "Enter the organisation"),
        ("/app", [("name", b"x"), ("name", b"")], "Enter a name for the App"),
        ("/app", [("github", b"https://" + b"a" * 300)], "https://github.example.com"),
        ("/app", [("webhook_url", b"https://a\0b.example.com")], "full address"),
        ("/app", [("webhook_url", b"https://a.example.com/" + b"a" * 2000)], "full address"),
        ("/app/existing", [], "The App id is a number"),
        ("/app/existing", [("webhook_secret", b"0123456789\0abcdef")], "one line of plain"),
        ("/model", [], "Paste the key"),
        ("/model", [("key", b"\0")], "plain characters"),
    ],
)
@pytest.mark.parametrize("kind", [FORM, PARTS])
async def test_field_that_lacks_or_is_odd_is_explained(
    pages: Pages, path: str, fields: list[tuple[str, bytes]], problem: str, kind: str
) -> None:
    ours = await inside(pages)
    body = (urlencoded if kind == FORM else multipart)([*ours, *fields])
    answer = await sent(pages, path, body, kind)
    assert answer.status_code == 422
    assert problem in answer.text
    assert pages.vault.told("put") == []


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (FORM, urlencoded([("key", b"x" * 70_000)])),
        (FORM, b"&a" * 30),
        (PARTS, multipart([("key_file", b"x"), ("key_file", b"y")], files=True)),
        (PARTS, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        (PARTS + "; charset=undefined", multipart([("key", b"x")])),
        (PARTS + "; charset=a\0b", multipart([("key", b"x")])),
        (PARTS + "; charset=unicode_escape", multipart([("csrf", b"\\ud800")])),
        ("multipart/form-data", b"--b--"),
    ],
)
async def test_form_that_cannot_be_read_is_told(
    pages: Pages, path: str, kind: str, more: bytes
) -> None:
    await inside(pages)
    answer = await sent(pages, path, more, kind)
    assert answer.status_code == 400
    assert "could not be read" in answer.text
    assert "Nothing was changed" in answer.text


@pytest.mark.parametrize("length", ["9" * 20, "9" * 5000])
async def test_length_that_is_no_sensible_number_is_too_large(pages: Pages, length: str) -> None:
    headers = {"Origin": pages.visitor.origin, "Content-Length": length}
    answer = await pages.visitor.client.post("/start", content=b"", headers=headers)
    assert answer.status_code == 413


async def test_browser_that_leaves_in_the_middle_of_a_form_is_no_fault_of_ours(
    pages: Pages,
) -> None:
    coming: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": b"token=", "more_body": True},
        {"type": "http.disconnect"},
    ]
    answered: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return coming.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        answered.append(message)

    headers = {"host": "127.0.0.1:8083", "origin": pages.visitor.origin,
               "content-length": "50", "content-type": FORM}  # fmt: skip
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/start",
        "headers": raw,
        "query_string": b"",
    }
    await pages.app(scope, receive, send)
    assert answered[0]["status"] == 400


@dataclass(frozen=True)
class ByHand:
    """A request that no page leads to."""

    path: str
    query: dict[str, bytes]
    fields: list[tuple[str, bytes]]
    kind: str
    charset: str
    files: bool

    @property
    def address(self) -> str:
        pairs = [f"{name}={quote_from_bytes(value[:900])}" for name, value in self.query.items()]
        return f"{self.path}?{'&'.join(pairs)}"

    @property
    def content_type(self) -> str:
        return f"{self.kind}; charset={self.charset}" if self.charset else self.kind

    def body(self, ours: list[tuple[str, bytes]]) -> bytes:
        fields = [*self.fields, *ours]
        return multipart(fields, files=self.files) if self.kind == PARTS else urlencoded(fields)


by_hand = st.builds(
    ByHand,
    path=st.sampled_from(PAGES),
    query=st.dictionaries(st.sampled_from(["token", "code", "state", "setup_action"]), values),
    fields=pairs,
    kind=st.sampled_from([FORM, PARTS, "text/plain", ""]),
    charset=st.sampled_from(CHARSETS),
    files=st.booleans(),
)


@given(request=by_hand)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_sent_is_answered_and_never_by_a_fault(
    pages: Pages, request: ByHand
) -> None:
    ours = await inside(pages)
    answers = [
        await sent(pages, request.address, request.body(ours), request.content_type),
        await pages.visitor.client.get(request.address),
    ]
    for answer in answers:
        assert answer.status_code < 500, answer.text
