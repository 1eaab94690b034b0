"""What comes back: at once, counted, without the key, and honest when it breaks."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from patchwright_common.errors import Permanent, Retry
from patchwright_runner.agent import Patience
from patchwright_runner.gateway.redaction import MARK, Redactor
from standin_model.app import create_app
from standin_model.scripting import issue_with_script

from .gateway_at_work import (
    KEY,
    PATIENT,
    asking,
    error_of,
    event,
    events,
    message,
    opened,
    served,
    stage,
    streamed,
    until,
)

STREAM = asking(stream=True)


async def test_each_piece_arrives_before_the_next_is_sent() -> None:
    heard = asyncio.Event()

    async def answer(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in events():
                yield piece
                await heard.wait()
                heard.clear()

        return streamed(pieces())

    got = []
    async with (
        stage(answer) as acting,
        acting.client.stream(
            "POST", "/v1/messages", json=STREAM, headers={"anthropic-version": "2023-06-01"}
        ) as response,
    ):
        async for piece in response.aiter_raw():
            got.append(piece)
            heard.set()

    assert got == events()


async def test_client_sees_the_servers_bytes_and_few_of_its_headers() -> None:
    shown = {
        "request-id": "req_1",
        "anthropic-ratelimit-tokens-remaining": "5",
        "retry-after": "3",
        "x-should-retry": "true",
    }
    hidden = {
        "anthropic-organization-id": "org_1",
        "set-cookie": "a=b",
        "server": "x",
        "location": "https://attacker.example",
    }

    async def answer(_request: Request) -> Response:
        return streamed(iter(events()), **shown, **hidden)

    async with stage(answer) as acting:
        response = await acting.post(STREAM)

    assert response.content == b"".join(events())
    kept = {name: value for name, value in response.headers.items() if name in shown}
    assert kept == shown
    assert set(response.headers) == {*shown, "content-type", "transfer-encoding"}
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_answer_that_was_compressed_unasked_is_readable() -> None:
    async def answer(_request: Request) -> Response:
        packed = gzip.compress(json.dumps(message(7)).encode())
        return Response(packed, 200, {"content-encoding": "gzip"}, "application/json")

    async with stage(answer) as acting:
        response = await acting.post()

    assert response.json() == message(7)
    assert "content-encoding" not in response.headers
    assert acting.gateway.usage.output_tokens == 7


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_is_counted_while_it_passes(stream: bool) -> None:
    cached = {"cache_read_input_tokens": 200, "cache_creation_input_tokens": 100}

    async def answer(_request: Request) -> Response:
        if not stream:
            return JSONResponse(message(50, **cached))
        whole = b"".join(events(output=50, **cached))
        return streamed(whole[i : i + 7] for i in range(0, len(whole), 7))

    async with stage(answer) as acting:
        await acting.post(asking(stream=stream))
        await until(lambda: bool(acting.finished))

    usage = acting.gateway.usage
    assert (usage.input_tokens, usage.output_tokens) == (10, 50)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (200, 100)
    assert usage.dollars == pytest.approx((10 * 4 + 50 * 20 + 100 * 5 + 200 * 0.2) / 1_000_000)
    assert acting.gateway.turns == 1
    (exchange,) = acting.finished
    assert (exchange.number, exchange.status, exchange.complete) == (1, 200, True)
    assert exchange.usage == usage


async def test_an_hour_in_the_cache_is_counted_at_its_price() -> None:
    hour = {
        "cache_creation_input_tokens": 1000,
        "cache_creation": {"ephemeral_1h_input_tokens": 1000},
    }

    async def answer(_request: Request) -> Response:
        return JSONResponse(message(0, **hour, input_tokens=0))

    async with stage(answer) as acting:
        await acting.post()

    assert acting.gateway.usage.dollars == pytest.approx(1000 * 8 / 1_000_000)


async def test_client_that_hangs_up_pays_for_the_whole_reply() -> None:
    gone = asyncio.Event()

    async def answer(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            first, *others = events(output=5000)
            yield first
            await gone.wait()
            for piece in others:
                yield piece

        return streamed(pieces())

    async with stage(answer) as acting:
        _, writer = await acting.begun()
        writer.close()
        await writer.wait_closed()
        gone.set()
        await until(lambda: bool(acting.finished))

        assert acting.gateway.usage.output_tokens == 5000
        assert acting.finished[0].complete


async def test_reply_that_breaks_off_is_paid_for_by_its_length() -> None:
    async def answer(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"".join(events(text="word " * 600)[:3])
            raise ConnectionError

        return streamed(pieces())

    async with stage(answer) as acting:
        with pytest.raises(httpx2.RemoteProtocolError):
            await acting.post(STREAM)
        await until(lambda: bool(acting.finished))

    assert acting.gateway.usage.input_tokens == 10
    assert 500 < acting.gateway.usage.output_tokens < 2000
    assert not acting.finished[0].complete
    assert acting.gateway.turns == 1
    assert isinstance(acting.gateway.fault, Retry)


async def test_whole_reply_that_breaks_off_is_an_honest_error() -> None:
    async def answer(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"type": "mess'
            raise ConnectionError

        response = streamed(pieces())
        response.headers["content-type"] = "application/json"
        return response

    async with stage(answer) as acting:
        response = await acting.post()

    assert response.status_code == 502
    assert error_of(response)["type"] == "api_error"
    assert response.headers["x-should-retry"] == "true"


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_error_that_passes_is_passed_on_with_its_timing(status: int) -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Later."}}

    async def answer(_request: Request) -> Response:
        return JSONResponse(body, status, {"retry-after": "7"})

    async with stage(answer) as acting:
        response = await acting.post(STREAM)
        await until(lambda: bool(acting.finished))

    assert response.status_code == status
    assert response.json() == body
    assert response.headers["retry-after"] == "7"
    assert acting.gateway.turns == 0
    assert acting.finished[0].status == status
    assert isinstance(acting.gateway.fault, Retry)
    assert acting.gateway.fault.after == 7


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "key was refused"), (402, "cannot be charged"), (403, "refused"), (404, "no model")],
)
async def test_refused_key_is_remembered_until_it_works(status: int, words: str) -> None:
    answers = [JSONResponse({"error": {"type": "x"}}, status), JSONResponse(message())]

    async def answer(_request: Request) -> Response:
        return answers.pop(0)

    async with stage(answer) as acting:
        response = await acting.post()
        fault = acting.gateway.fault
        await acting.post()

    assert response.status_code == status
    assert response.headers["x-should-retry"] == "false"
    assert isinstance(fault, Permanent)
    assert words in fault.reason
    assert acting.gateway.fault is None
    assert acting.gateway.verdict is None


async def test_unknown_small_model_is_not_the_jobs_fault() -> None:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"error": {"type": "not_found_error"}}, 404)

    async with stage(answer, more_models=("claude-haiku-5-5",)) as acting:
        await acting.post(asking(model="claude-haiku-5-5"))

    assert acting.gateway.fault is None


async def test_server_that_cannot_be_reached_is_an_honest_error() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with opened(url, []) as acting:
            response = await acting.post(STREAM)

    assert response.status_code == 502
    assert error_of(response)["message"] == "The model's server cannot be reached."
    assert response.headers["x-should-retry"] == "true"
    assert isinstance(acting.gateway.fault, Retry)


@pytest.mark.parametrize("begun", [False, True])
async def test_server_that_falls_silent_is_left(begun: bool) -> None:
    async def answer(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield events()[0]
            await asyncio.sleep(600)

        if begun:
            return streamed(pieces())
        await asyncio.sleep(600)
        return Response()

    started = time.monotonic()
    # Begun, it needs the time to begin on a busy machine.
    async with stage(answer, patience=Patience(silence=4.0 if begun else 0.5)) as acting:
        if begun:
            with pytest.raises(httpx2.RemoteProtocolError):
                await acting.post(STREAM)
        else:
            response = await acting.post(STREAM)
            assert response.status_code == 504
            assert error_of(response)["type"] == "timeout_error"

    assert time.monotonic() - started < PATIENT


async def test_redirect_to_another_host_is_not_followed() -> None:
    async def answer(_request: Request) -> Response:
        return Response(status_code=307, headers={"location": "http://attacker.example/"})

    async with stage(answer) as acting:
        response = await acting.post()

    assert response.status_code == 502
    assert "location" not in response.headers
    assert len(acting.received) == 1


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
async def test_echoed_key_does_not_enter_the_sandbox(step: int) -> None:
    async def answer(request: Request) -> Response:
        words = f"You sent {request.headers['x-api-key']}."
        asked = json.loads(await request.body())
        leaky = {"request-id": KEY, "anthropic-ratelimit-x": f"for {KEY}"}
        if not asked.get("stream"):
            return JSONResponse({"error": {"message": words}}, 401, leaky)
        whole = b"".join(events(text=words))
        return streamed((whole[i : i + step] for i in range(0, len(whole), step)), **leaky)

    async with stage(answer) as acting:
        responses = [await acting.post(), await acting.post(STREAM)]

    for response in responses:
        assert "You sent [redacted]." in response.text
        assert KEY not in response.text
        assert KEY not in str(response.headers.raw)
    assert acting.gateway.fault is None


async def test_echoed_key_is_not_in_what_the_user_is_told() -> None:
    async with served(create_app(KEY)) as url, opened(url, []) as acting:
        script = issue_with_script({"text": "", "failures": [{"status": 400, "echo": True}]})
        response = await acting.post(asking(messages=[{"role": "user", "content": script}]))

    assert "Not with the key [redacted]" in response.text
    assert isinstance(acting.gateway.fault, Permanent)
    assert "Not with the key" in acting.gateway.fault.reason
    assert KEY not in repr(acting.gateway.fault)


@given(
    st.lists(st.sampled_from(["a", "sk", "sk-", "sk-sk-key", "-key", "k", "sk-key"]), max_size=12),
    st.data(),
)
def test_key_is_found_wherever_the_pieces_are_cut(words: list[str], data: st.DataObject) -> None:
    key, text = "sk-sk-key", "".join(words).encode()
    redactor = Redactor(key)
    out = bytearray()
    for piece in cut(text, data):
        out += redactor.feed(piece)
    out += redactor.end()

    assert bytes(out) == text.replace(key.encode(), MARK)


def cut(text: bytes, data: st.DataObject) -> Iterator[bytes]:
    while text:
        size = data.draw(st.integers(1, len(text)))
        yield text[:size]
        text = text[size:]


def test_nothing_is_held_back_that_cannot_be_the_key() -> None:
    redactor = Redactor(KEY)

    assert redactor.feed(event("ping")) == event("ping")
    assert redactor.feed(b"task") == b"ta"
    assert redactor.feed(b"y") == b"sky"
