"""The socket: private, open to no flood, closed in time."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
import tempfile
import time
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.requests import Request
from starlette.responses import Response

from patchwright_common.telemetry import JOB_ID, job, span
from patchwright_runner.gateway.door import CONNECTIONS
from patchwright_runner.gateway.intake import HELD_BODIES

from .gateway_at_work import HEAD, PATIENT, asking, error_of, events, stage, streamed


async def test_socket_is_nobody_elses_and_gone_afterwards() -> None:
    async with stage() as acting:
        folder = acting.door.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert acting.door.is_socket()

    assert not folder.exists()


async def test_socket_has_a_short_path_in_a_deep_temporary_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    usual, tempfile.tempdir = tempfile.tempdir, str(deep)
    try:
        async with stage() as acting:
            assert (await acting.post()).status_code == 200
            assert len(str(acting.door)) < 100
    finally:
        tempfile.tempdir = usual


async def test_closing_does_not_wait_for_a_reply_without_end() -> None:
    async def answer(_request: Request) -> Response:
        async def pieces():
            yield events()[0]
            await asyncio.sleep(600)

        return streamed(pieces())

    async with stage(answer) as acting:
        reader, writer = await acting.begun()
        _, idle = await asyncio.open_unix_connection(acting.door)
        started = time.monotonic()

    assert time.monotonic() - started < PATIENT
    assert b"0\r\n\r\n" not in await reader.read()
    assert acting.gateway.usage.input_tokens == 10
    assert not acting.finished[0].complete
    writer.close()
    idle.close()


async def test_slow_loris_does_not_hold_up_the_others() -> None:
    async with stage(requests=2, body_seconds=PATIENT) as acting:
        slow = []
        for number in range(40):
            _, writer = await asyncio.open_unix_connection(acting.door)
            writer.write(HEAD[:30] if number % 2 else HEAD + b"content-length: 1000\r\n\r\n{")
            await writer.drain()
            slow.append(writer)
        passed = await acting.post()
        for writer in slow:
            writer.close()

    assert passed.status_code == 200
    assert len(acting.received) == 1


async def test_body_that_does_not_arrive_is_given_up() -> None:
    async with stage(body_seconds=0.2) as acting:
        answer = await acting.raw(HEAD + b'content-length: 1000\r\n\r\n{"model"')

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"timeout_error"' in answer


async def test_flood_of_connections_does_not_use_up_the_runners_files() -> None:
    async with stage() as acting:
        writers = [
            (await asyncio.open_unix_connection(acting.door))[1] for _ in range(CONNECTIONS - 5)
        ]
        assert (await acting.post()).status_code == 200
        extra = [await asyncio.open_unix_connection(acting.door) for _ in range(20)]
        refused = [await reader.read() for reader, _ in extra[10:]]
        for writer in [*writers, *(writer for _, writer in extra)]:
            writer.close()

    assert refused == [b""] * 10


@pytest.mark.parametrize("chunked", [False, True])
async def test_oversized_body_is_refused(chunked: bool) -> None:
    large = json.dumps(asking(system="x" * 2000)).encode()

    async def pieces():
        for start in range(0, len(large), 100):
            yield large[start : start + 100]

    async with stage(body_bytes=2000) as acting:
        refused = await acting.client.post(
            "/v1/messages",
            content=pieces() if chunked else large,
            headers={"anthropic-version": "2023-06-01"},
        )
        assert acting.received == []
        passed = await acting.post(asking(system="x" * 1500))

    assert refused.status_code == 413
    assert error_of(refused)["type"] == "request_too_large"
    assert passed.status_code == 200


async def test_many_large_bodies_at_once_do_not_fill_the_memory() -> None:
    async with stage(body_bytes=10_000) as acting:
        holding = []
        for _ in range(HELD_BODIES):
            _, writer = await asyncio.open_unix_connection(acting.door)
            writer.write(HEAD + b"content-length: 9999\r\n\r\n" + b" " * 9900)
            await writer.drain()
            holding.append(writer)
        body = json.dumps(asking(system="x" * 5000)).encode()
        async with asyncio.timeout(PATIENT):
            while (answer := await acting.post(body)).status_code == 200:
                await asyncio.sleep(0.01)
        for writer in holding:
            writer.close()
        async with asyncio.timeout(PATIENT):
            while (await acting.post(body)).status_code != 200:
                await asyncio.sleep(0.01)

    assert answer.status_code == 529
    assert answer.headers["x-should-retry"] == "true"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        HEAD + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
    ids=["tls", "http2", "two-lengths", "large-header", "websocket"],
)
async def test_garbage_is_survived_without_a_word_in_the_log(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with stage() as acting:
        reader, writer = await asyncio.open_unix_connection(acting.door)
        writer.write(garbage)
        await asyncio.wait_for(reader.read(100), PATIENT)
        writer.close()
        passed = await acting.post()

    assert passed.status_code == 200
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_each_reply_is_a_span_of_the_run(spans: InMemorySpanExporter) -> None:
    answers = [streamed(iter(events(output=9))), Response("{}", 529)]

    async def answer(_request: Request) -> Response:
        return answers.pop(0)

    with job("job-1"), span("run agent") as run:
        async with stage(answer) as acting:
            await acting.post(asking(stream=True))
            await acting.post()

    first, second = (s for s in spans.get_finished_spans() if s.name == "model turn")
    for made in (first, second):
        assert made.parent is not None
        assert made.parent.span_id == run.get_span_context().span_id
        assert made.attributes is not None
        assert made.attributes[JOB_ID] == "job-1"
        assert made.attributes["gen_ai.request.model"] == "claude-opus-5-5"
    assert first.attributes is not None
    assert first.attributes["gen_ai.usage.output_tokens"] == 9
    assert first.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert first.status.status_code is StatusCode.UNSET
    assert second.status.status_code is StatusCode.ERROR
    assert "traceparent" not in acting.received[0].headers
