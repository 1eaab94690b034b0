"""Every way in which the model's server can fail, and what becomes of the job."""

from __future__ import annotations

import secrets
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from patchwright_common.errors import Permanent, Retry
from patchwright_runner.agent import Patience
from patchwright_runner.agent.faults import retry_after
from standin_model.scripting import bash, issue_with_script

from .agent_at_work import QUICK, stage

ALWAYS = 99


def failing(**failure: Any) -> str:
    return issue_with_script({"text": "Here after all.", "failures": [failure]})


async def test_rate_limit_overload_and_broken_streams_are_survived(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        result = await acting.work("scenario: failures")

    assert result.summary == "Done in spite of it all: `recovered.txt` is new."
    assert (tmp_path / "recovered.txt").read_text() == "recovered\n"


@pytest.mark.parametrize(
    "failure",
    [
        {"status": 408},
        {"status": 429, "retry_after": 0.05},
        {"status": 500},
        {"status": 529},
        {"stream": "drop"},
        {"stream": "end"},
        {"stream": "error"},
        {"stream": "hang"},
    ],
    ids=lambda failure: "-".join(map(str, failure.values())),
)
async def test_passing_fault_is_tried_again_in_place(tmp_path: Path, failure: Any) -> None:
    async with stage(tmp_path) as acting:
        patience = Patience(tries=3, first_wait=0.01, silence=0.3)
        result = await acting.work(failing(**failure, times=2), patience=patience)
        outcomes = [request["outcome"] for request in await acting.requests()]

    assert result.summary == "Here after all."
    assert outcomes == [str(failure.get("status") or failure.get("stream"))] * 2 + ["ok"]


@pytest.mark.parametrize("failure", [{"status": 529}, {"stream": "drop"}, {"stream": "end"}])
async def test_fault_that_lasts_gives_the_job_back_to_the_queue(
    tmp_path: Path, failure: Any
) -> None:
    async with stage(tmp_path) as acting:
        with pytest.raises(Retry, match="3 times in a row"):
            await acting.work(failing(**failure, times=ALWAYS))

        assert len(await acting.requests()) == QUICK.tries


async def test_rate_limit_is_waited_for_as_long_as_the_server_says(tmp_path: Path) -> None:
    started = time.monotonic()
    async with stage(tmp_path) as acting:
        await acting.work(failing(status=429, retry_after=0.4))

    assert time.monotonic() - started > 0.4


async def test_long_rate_limit_is_waited_for_in_the_queue(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        with pytest.raises(Retry) as caught:
            await acting.work(failing(status=429, retry_after=3600))

        assert caught.value.after == 3600
        assert len(await acting.requests()) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7),
        ({"retry-after": "Thu, 01 Jan 1970 00:17:40 GMT"}, 60),
        ({"retry-after": "Thu, 01 Jan 1970 00:16:40 GMT"}, None),
        ({"retry-after": "1e12"}, 86_400),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "in a while"}, None),
        ({}, None),
    ],
)
def test_servers_own_timing_is_read_in_every_form(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers, now=1000.0) == seconds


async def test_server_that_wants_a_retry_gets_it_whatever_its_status(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        result = await acting.work(failing(status=400, headers={"x-should-retry": "true"}))

    assert result.summary == "Here after all."


async def test_server_that_wants_no_retry_is_left_alone_until_the_queue_comes_round(
    tmp_path: Path,
) -> None:
    headers = {"x-should-retry": "false", "retry-after-ms": "90"}
    async with stage(tmp_path) as acting:
        with pytest.raises(Retry) as caught:
            await acting.work(failing(status=529, headers=headers))

        assert len(await acting.requests()) == 1
    assert caught.value.after == 0.09


@pytest.mark.parametrize("stream", ["drop", "end", "error", "hang"])
async def test_call_in_a_broken_stream_is_executed_once_and_whole(
    tmp_path: Path, stream: str
) -> None:
    command = "echo once >> log" + " # and a long comment that is cut off" * 9
    steps = [{"tools": [bash(command)], "failures": [{"stream": stream}]}, {"text": "Done."}]
    async with stage(tmp_path) as acting:
        await acting.work(issue_with_script(*steps))

    assert acting.sandbox.commands == [command]
    assert (tmp_path / "log").read_text() == "once\n"


async def test_unreachable_model_gives_the_job_back_to_the_queue(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        pass

    with pytest.raises(Retry, match="broke off"):
        await acting.work("Hello?")


async def test_tool_input_that_is_not_json_is_asked_for_again(tmp_path: Path) -> None:
    broken = {"name": "bash", "raw_input": '{"command": ]'}
    async with stage(tmp_path) as acting:
        with pytest.raises(Retry, match="ValueError"):
            await acting.work(issue_with_script({"tools": [broken]}))

    assert acting.sandbox.commands == []


async def test_wrong_key_is_a_matter_for_the_operator(tmp_path: Path) -> None:
    wrong = f"sk-wrong-{secrets.token_hex(12)}"
    async with stage(tmp_path) as acting:
        with pytest.raises(Permanent) as caught:
            await acting.work("Hello", api_key=SecretStr(wrong))

        assert len(await acting.requests()) == 1
    assert caught.value.reason == "The model key was refused."
    assert "Whoever runs this Patchwright" in caught.value.advice
    assert wrong not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "did not accept the request"),
        (402, "cannot be charged"),
        (403, "key was refused"),
        (404, "no model claude-opus-5-5"),
        (413, "no longer fits"),
        (418, "(418)"),
    ],
)
async def test_lasting_fault_ends_the_job_with_advice(
    tmp_path: Path, status: int, words: str
) -> None:
    async with stage(tmp_path) as acting:
        with pytest.raises(Permanent) as caught:
            await acting.work(failing(status=status))

        assert len(await acting.requests()) == 1
    assert words in caught.value.reason
    assert caught.value.advice


async def test_servers_own_words_are_quoted_without_the_key(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        # The stand-in quotes the name of a scenario that it does not know.
        echoed = f"scenario: {acting.key}"
        with pytest.raises(Permanent) as caught:
            await acting.work(echoed)

    assert "there is no scenario called '…'" in caught.value.reason
    assert acting.key not in "".join(traceback.format_exception(caught.value))


async def test_tokens_of_a_broken_stream_are_paid_for(tmp_path: Path) -> None:
    smooth = {"text": "Looking.", "tools": [bash("ls")]}
    rough = {**smooth, "failures": [{"stream": "drop"}]}
    async with stage(tmp_path) as acting:
        paid = [
            (await acting.work(issue_with_script(step, {"text": "Done."}))).usage
            for step in (smooth, rough)
        ]

    assert paid[1].tokens > paid[0].tokens * 1.5
