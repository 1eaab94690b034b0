"""A program in the box that floods its gateway: the other jobs' time and memory stay theirs.

Time is the processor's, as the machine may be busy: how much the runner worked between two turns
of its event loop, beside what it takes to read one body, measured in the same run.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from patchwright_runner.agent.protocol import Budget
from patchwright_runner.gateway import json_body
from patchwright_runner.gateway.intake import BODY_BYTES, HELD_BODIES

from .gateway_at_work import HEAD, PATIENT, asking, error_of, reply, stage, until

CONNECTIONS = 12
VALUES = 60_000
IN_BETWEEN = 4
"""Times what it takes to read one body that may pass."""
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
TURNS_TO_ARRIVE = 200
PICTURE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0K" * 100_000}


def tool_use(number: int, value: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "bash", "input": value}


def many_values(model: str = "unknown") -> bytes:
    content = [tool_use(1, {"a": [[]] * VALUES})]
    return json.dumps(asking(model=model, messages=[{"role": "user", "content": content}])).encode()


def last_byte_later(body: bytes) -> tuple[bytes, bytes]:
    return HEAD + f"content-length: {len(body)}\r\n\r\n".encode() + body[:-1], body[-1:]


FLOODS = {
    # name: what is sent and left to arrive, and what then comes from all at once
    "values": last_byte_later(many_values()),
    "name-of-a-model": last_byte_later(json.dumps(asking(model="m" * 1_000_000)).encode()),
    "key": last_byte_later(json.dumps({"\u00e9" * 4_000_000: 1}, ensure_ascii=False).encode()),
    "headers": (b"", HEAD + b"a:\r\n" * 15_000 + b"\r\n"),
    "betas": (b"", HEAD + b"anthropic-beta: " + b"x," * 30_000 + b"\r\n\r\n"),
    "chunks": (b"", HEAD + CHUNKED + b"1\r\n \r\n" * 25_000 + b"0\r\n\r\n"),
}


@pytest.mark.parametrize(("first", "then"), FLOODS.values(), ids=FLOODS)
async def test_flood_leaves_the_event_loop_to_the_others(first: bytes, then: bytes) -> None:
    floor = work_of_reading()
    async with stage() as acting:
        ends = [await asyncio.open_unix_connection(acting.door) for _ in range(CONNECTIONS)]
        for _, writer in ends:
            writer.write(first)
            await writer.drain()
        for _ in range(TURNS_TO_ARRIVE):
            await asyncio.sleep(0)
        for _, writer in ends:
            writer.write(then)
        answers = asyncio.gather(*(answered(reader) for reader, _ in ends))
        longest = await longest_turn(answers)
        for _, writer in ends:
            writer.close()

    assert all(not answer or answer.startswith(b"HTTP/1.1 4") for answer in answers.result())
    assert longest < IN_BETWEEN * floor
    assert acting.received == []


def work_of_reading() -> float:
    """The median of some."""
    body, works = many_values(), []
    for _ in range(3):
        started = time.process_time()
        json_body.read(body)
        works.append(time.process_time() - started)
    return sorted(works)[1]


async def answered(reader: asyncio.StreamReader) -> bytes:
    """An answer's beginning, or nothing where the connection was just closed."""
    try:
        return await asyncio.wait_for(reader.read(1000), PATIENT)
    except ConnectionError:
        return b""


async def longest_turn(until_done: asyncio.Future[Any]) -> float:
    """Of the event loop, in seconds of its own thread's work."""
    longest, before = 0.0, time.thread_time()
    while not until_done.done():
        await asyncio.sleep(0.001)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    return longest


async def test_flood_of_one_job_is_not_read_before_anothers_request() -> None:
    async with stage() as hostile, stage() as honest:
        flood = [asyncio.create_task(hostile.post(many_values())) for _ in range(CONNECTIONS)]
        await until(lambda: any(task.done() for task in flood))
        passed = await honest.post()
        waiting = [task for task in flood if not task.done()]
        refused = await asyncio.gather(*flood)

    assert passed.status_code == 200
    assert len(waiting) > CONNECTIONS / 2
    assert {answer.status_code for answer in refused} == {404}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_what_comes_after_the_budgets_end_is_not_read(path: str) -> None:
    async with stage(budget=Budget(turns=1)) as acting:
        assert (await acting.post()).status_code == 200
        refused = await acting.post(b"{", path)

    assert refused.status_code == 400
    assert "JSON" not in error_of(refused)["message"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_requests_that_wait_for_the_model_do_not_fill_the_memory(path: str) -> None:
    release = asyncio.Event()

    async def answer(request: Request) -> Response:
        await release.wait()
        return await reply(request)

    large = json.dumps(asking(system="x" * 9000)).encode()
    async with stage(answer, body_bytes=10_000) as acting:
        flood = [asyncio.create_task(acting.post(large, path)) for _ in range(3 * HELD_BODIES)]
        await until(lambda: sum(task.done() for task in flood) >= 2 * HELD_BODIES)
        refused = [task.result() for task in flood if task.done()]
        release.set()
        passed = [task for task in await asyncio.gather(*flood) if task not in refused]
        afterwards = await acting.post(large, path)

    assert {answer.status_code for answer in refused} == {529}
    assert {answer.headers["x-should-retry"] for answer in refused} == {"true"}
    assert [answer.status_code for answer in passed] == [200] * HELD_BODIES
    assert afterwards.status_code == 200


async def test_long_conversation_with_pictures_passes_and_is_counted_meanwhile() -> None:
    """As large as the API takes it: 1,000 turns with a tool, and what is left for pictures."""
    turns = [turn for number in range(1000) for turn in with_a_tool(number)]
    pictures = [{"type": "image", "source": PICTURE}] * 40
    asked = asking(messages=[{"role": "user", "content": pictures}, *turns])
    body = json.dumps(asked).encode()
    assert 0.95 * BODY_BYTES < len(body) < BODY_BYTES

    async with stage(budget=Budget(tokens=10**9, dollars=10**6)) as acting:
        answers: list[Awaitable[Any]] = [
            acting.post(body, path) for path in ("/v1/messages", "/v1/messages/count_tokens")
        ]
        passed = await asyncio.gather(*answers)

    assert [answer.status_code for answer in passed] == [200, 200]
    assert [received.body for received in acting.received] == [asked, asked]


def with_a_tool(number: int) -> list[dict[str, Any]]:
    said = {"type": "text", "text": "Now the next file."}
    use = tool_use(number, {"command": "cat file", "description": "Look", "timeout": 1000})
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "line\n" * 20}
    result["cache_control"] = {"type": "ephemeral"}
    return [
        {"role": "assistant", "content": [said, use]},
        {"role": "user", "content": [result]},
    ]
