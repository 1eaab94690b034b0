"""What comes out of a channel is what GitHub put in, byte for byte where that can be had."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_local import channel
from patchwright_local.channel import ChannelError, UnreadableError, members, read, subscribed

from .smee import Smee, running_smee

HEADERS = {
    "content-type": "application/json",
    "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "x-github-event": "issues",
    "x-hub-signature-256": "sha256=0",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def message(body: str, **more: str) -> str:
    """`more` are members as JSON."""
    found = {name: json.dumps(value) for name, value in HEADERS.items()}
    found |= {"body": body, "query": "{}", "timestamp": "1700000000000"} | more
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in found.items()) + "}"


@pytest.fixture(name="smee")
async def _smee() -> AsyncIterator[Smee]:
    async with running_smee() as running:
        yield running


@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_body_is_cut_out_as_it_was_written(body: object, indent: object, ascii_only: bool) -> None:
    written = json.dumps(body, indent=indent, ensure_ascii=ascii_only)  # type: ignore[arg-type]
    try:
        expected = written.encode()
    except UnicodeEncodeError:
        return
    found = read(message(written))
    assert found.body == expected
    assert not found.exact


@given(JSON)
def test_members_read_as_json_reads_them(value: object) -> None:
    text = json.dumps({"a": value, "b": [value], "": {}}, indent=2)
    assert {name: json.loads(part) for name, part in members(text).items()} == json.loads(text)


@pytest.mark.parametrize(
    "body",
    [
        '{"n":[0,-1,1.5,0.1,1e+21,1e-7,123456789012345680000,9007199254740991,5e-324]}',
        r'{"s":"\ud83d lone \udc00"}',
        r'{"t":"quote \" back \\ line \n bell \u0007 slash / lt < amp &"}',
        '{"d":"\x7f\x80\xa0\ufeff\ufffd\u2028\u2029\x85 漢字 🎉"}',
        '{"z":1,"a":{"body":{"body":"}\\"{"}},"m":[[],{},null,true,false,""]}',
        "{}",
        '{"n":' + "9" * 5000 + "}",
    ],
)
def test_what_javascript_writes_stays_as_it_is(body: str) -> None:
    """All but the last were seen to come out of Node's JSON.stringify unchanged."""
    assert read(message(body)).body == body.encode()


@pytest.mark.parametrize("name", ["bodyB", "rawbody"])
def test_original_bytes_win_over_the_parsed_body(name: str) -> None:
    original = '{\r\n  "price": 1.0, "name": "\\u00fc" }'
    encoded = base64.b64encode(original.encode()).decode() if name == "bodyB" else original
    found = read(message('{"price":1,"name":"ü"}', **{name: json.dumps(encoded)}))
    assert found.body == original.encode()
    assert found.exact


def test_github_s_own_headers_are_taken_and_no_others() -> None:
    more = {
        name: json.dumps("x")
        for name in ("authorization", "cookie", "host", "content-length", "patchwright-replay")
    }
    assert read(message("{}", **more)).headers == HEADERS


def test_header_that_is_no_plain_text_is_left_out() -> None:
    found = read(message("{}", **{"user-agent": '"a\\r\\nb: c"', "x-github-hook-id": "7"}))
    assert found.headers == HEADERS


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[]",
        "null",
        '"body"',
        "{} {}",
        '{"a":1,}',
        '{"a" 1}',
        "{1:2}",
        "{}",
        message("{}", **{"x-github-event": '"../x"'}),
        message("{}", **{"x-github-delivery": '""'}),
        message("{}", **{"x-github-delivery": '"a b"'}),
        message("{}", **{"x-github-delivery": "7"}),
        message("{}", bodyB='"not base64"'),
        message("{}", rawbody=r'"\ud800"'),
        message("{", timestamp="0"),
        "[" * 100_000,
        message("[" * 100_000 + "]" * 100_000),
    ],
)
def test_what_is_no_delivery_is_unreadable(data: str) -> None:
    with pytest.raises(UnreadableError):
        read(data)


def test_body_larger_than_github_sends_is_left_out() -> None:
    limit = channel.BODY_LIMIT
    assert len(read(message('"' + "x" * (limit - 2) + '"')).body) == limit
    with pytest.raises(UnreadableError, match="larger"):
        read(message('"' + "x" * (limit - 1) + '"'))


async def hear(smee: Smee, count: int, *, silence: float = 10.0) -> list[str]:
    """The names of the next messages."""
    async with (
        httpx.AsyncClient() as http,
        subscribed(http, f"{smee.url}/secret-id", "", silence=silence) as messages,
    ):
        return [(await anext(messages)).event for _ in range(count)]


async def test_connection_without_a_word_is_dead(smee: Smee) -> None:
    assert await hear(smee, 1, silence=0.3) == ["ready"]
    with pytest.raises(ChannelError, match="nothing was heard"):
        await hear(smee, 2, silence=0.3)


async def test_pings_keep_a_quiet_connection_alive(smee: Smee) -> None:
    async with (
        httpx.AsyncClient() as http,
        subscribed(http, f"{smee.url}/pinged", "", silence=1.0) as messages,
    ):
        heard = [(await anext(messages)).event]
        for _ in range(6):
            await asyncio.sleep(0.3)
            smee.say("pinged", "{}", event="ping")
            heard.append((await anext(messages)).event)
    assert heard == ["ready", *["ping"] * 6]


async def test_message_without_an_end_does_not_fill_the_memory(smee: Smee) -> None:
    smee.preamble = b"data: " + b"x" * (channel.MESSAGE_LIMIT + 1)
    with pytest.raises(ChannelError, match="SSEError"):
        await hear(smee, 1)


@pytest.mark.parametrize(
    ("status", "lasting"), [(404, True), (403, True), (429, False), (503, False)]
)
async def test_refusal_says_whether_it_lasts(smee: Smee, status: int, lasting: bool) -> None:
    smee.status = status
    with pytest.raises(ChannelError, match=str(status)) as refused:
        await hear(smee, 1)
    assert refused.value.lasting is lasting
    assert "secret-id" not in str(refused.value)


async def test_page_is_no_channel(smee: Smee) -> None:
    smee.kind = "text/html"
    with pytest.raises(ChannelError, match="not with a stream") as refused:
        await hear(smee, 1)
    assert refused.value.lasting


async def test_new_channel_can_be_listened_to(smee: Smee) -> None:
    url = await channel.new(smee.url)
    async with httpx.AsyncClient() as http, subscribed(http, url, "") as messages:
        assert (await anext(messages)).event == "ready"


@pytest.mark.parametrize("path", ["/new", ""])
async def test_server_that_gives_no_channel_is_said_so(smee: Smee, path: str) -> None:
    server = smee.url + path if path else "http://127.0.0.1:1"
    with pytest.raises(ChannelError, match="gave no channel"):
        await channel.new(server)


@pytest.mark.parametrize(
    "url", ["", "new", "smee.io/x", "ftp://smee.io/x", "https://smee.io", "https://", "http://[/x"]
)
def test_address_that_is_no_channel_s_is_refused(url: str) -> None:
    with pytest.raises(ChannelError):
        channel.checked(url)


def test_address_is_shown_without_what_makes_it_a_secret() -> None:
    assert channel.shown("https://user:word@smee.io/AbC123?x=1") == "https://smee.io/…"
