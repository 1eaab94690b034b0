"""The budget of a job holds, whoever asks, how often and how many at once."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from patchwright_common.errors import Overtaken, Permanent
from patchwright_runner.agent import Budget, Usage
from patchwright_runner.gateway import Exchange

from .gateway_at_work import (
    HEAD,
    PATIENT,
    asking,
    error_of,
    events,
    message,
    stage,
    streamed,
    until,
)

RACERS = 50


@pytest.mark.parametrize(
    ("budget", "used", "words"),
    [
        (Budget(turns=2), Usage(), "budget of 2 turns"),
        (Budget(tokens=30), Usage(), "budget of 30 tokens"),
        (Budget(tokens=1030), Usage(input_tokens=1000), "budget of 1,030 tokens"),
        (Budget(dollars=0.0002), Usage(), "budget of $0.00"),
    ],
    ids=["turns", "tokens", "tokens-with-earlier-attempts", "dollars"],
)
async def test_used_up_budget_ends_the_job(budget: Budget, used: Usage, words: str) -> None:
    async with stage(budget=budget, used=used) as acting:
        passed = [await acting.post(), await acting.post()]
        assert acting.gateway.verdict is None
        refused = [await acting.post(asking(stream=True)), await acting.post()]
        counted = await acting.post(path="/v1/messages/count_tokens")
        stopped = await asyncio.wait_for(acting.gateway.stopped(), PATIENT)

    assert [response.status_code for response in passed] == [200, 200]
    assert [response.status_code for response in [*refused, counted]] == [400, 400, 400]
    assert refused[0].headers["x-should-retry"] == "false"
    assert words in error_of(refused[0])["message"]
    assert len(acting.received) == 2
    assert isinstance(stopped, Permanent)
    assert words in stopped.reason
    assert "raise the budget" in stopped.advice
    assert acting.gateway.verdict is stopped


async def test_turns_of_an_attempt_that_is_continued_count() -> None:
    async with stage(budget=Budget(turns=5), turns=4) as acting:
        statuses = [(await acting.post()).status_code for _ in range(2)]

    assert statuses == [200, 400]
    assert acting.gateway.turns == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_time_runs_out_in_the_middle_of_a_reply(begun: bool) -> None:
    async def answer(_request: Request) -> Response:
        async def pieces():
            yield events()[0]
            await asyncio.sleep(600)

        if begun:
            return streamed(pieces())
        await asyncio.sleep(600)
        return Response()

    # Begun, it needs the time to begin on a busy machine.
    seconds = 4.0 if begun else 0.5
    async with stage(answer, budget=Budget(seconds=seconds)) as acting:
        if begun:
            with pytest.raises(httpx2.RemoteProtocolError):
                await acting.post(asking(stream=True))
        else:
            assert "0.5 s" in error_of(await acting.post(asking(stream=True)))["message"]
        later = await acting.post()

    assert later.status_code == 400
    assert isinstance(acting.gateway.verdict, Permanent)
    assert len(acting.received) <= 1


@pytest.mark.parametrize(
    ("budget", "most"),
    [
        (Budget(turns=7), 7),
        # A reply costs 110 tokens, and is expected to cost 100 and half of its body's bytes: the
        # last of the budget goes to one after the other, and one may pass the end.
        (Budget(tokens=1000), 10),
        (Budget(dollars=0.02), 10),
    ],
    ids=["turns", "tokens", "dollars"],
)
async def test_budget_is_not_overrun_by_many_at_once(budget: Budget, most: int) -> None:
    async def answer(_request: Request) -> Response:
        await asyncio.sleep(0.02)
        return JSONResponse(message(100))

    async with stage(answer, budget=budget) as acting:
        racing = [acting.post() for _ in range(RACERS)]
        statuses = [response.status_code for response in await asyncio.gather(*racing)]

        assert statuses.count(200) == len(acting.received) == most
        assert statuses.count(400) == RACERS - most
        await until(lambda: len(acting.finished) == most)

    # The same number passes where the budget is large enough.
    async with stage(answer) as acting:
        racing = [acting.post() for _ in range(RACERS)]
        statuses = [response.status_code for response in await asyncio.gather(*racing)]

    assert statuses == [200] * RACERS


async def test_no_more_than_some_requests_run_at_once() -> None:
    running, most, full = 0, 0, asyncio.Event()

    async def answer(_request: Request) -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0.02)
        running -= 1
        return JSONResponse(message())

    async with stage(answer, requests=3) as acting:
        await asyncio.gather(*(acting.post() for _ in range(20)))

    assert most == 3


async def test_failed_requests_are_no_turns() -> None:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"type": "error", "error": {"type": "overloaded_error"}}, 529)

    async with stage(answer, budget=Budget(turns=1)) as acting:
        statuses = [(await acting.post()).status_code for _ in range(3)]

    assert statuses == [529, 529, 529]
    assert acting.gateway.verdict is None


async def test_who_hangs_up_while_waiting_for_room_is_not_asked_for() -> None:
    freed = asyncio.Event()

    async def answer(_request: Request) -> Response:
        await freed.wait()
        return JSONResponse(message())

    async with stage(answer, requests=1) as acting:
        first = asyncio.create_task(acting.post())
        await until(lambda: len(acting.received) == 1)
        body = json.dumps(asking()).encode()
        _, writer = await asyncio.open_unix_connection(acting.door)
        writer.write(HEAD + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        freed.set()
        assert (await first).status_code == 200
        assert (await acting.post()).status_code == 200

    assert len(acting.received) == 2
    assert acting.gateway.turns == 2


async def test_observer_that_was_overtaken_stops_the_job() -> None:
    async def finished(_exchange: Exchange) -> None:
        raise Overtaken

    async with stage(finished=finished) as acting:
        await acting.post()
        stopped = await asyncio.wait_for(acting.gateway.stopped(), PATIENT)
        refused = await acting.post()

    assert isinstance(stopped, Overtaken)
    assert refused.status_code == 400
    assert error_of(refused)["message"] == "This job has been stopped."


async def test_all_exchanges_are_told_of_before_the_gateway_has_closed() -> None:
    told: list[int] = []

    async def finished(exchange: Exchange) -> None:
        await asyncio.sleep(0.01)
        told.append(exchange.number)

    async with stage(finished=finished) as acting:
        await asyncio.gather(*(acting.post() for _ in range(10)))

    assert told == list(range(1, 11))
