"""A conversation that grows beyond the model's window goes on in a shorter form."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from patchwright_common.errors import Overtaken, Permanent
from patchwright_runner.agent.context import ASK_FOR_SUMMARY, SUMMARY_HEAD
from standin_model.scripting import bash, issue_with_script

from .agent_at_work import Stage, issue, stage
from .test_agent_resume import stored

TOKENS = 20_000
SMALL = {"window": TOKENS, "max_tokens": 1_000}
OUTPUT = bash("seq 1000 2199")
"""6,000 characters."""
SPOKEN = {"text": "Thinking aloud. " * 400, "tools": [bash("echo x >> log")]}
"""What the model says itself cannot be left out."""
SUMMARY = {"match": "Do not call a tool", "steps": [{"text": "So far so good."}], "loop": True}
AFTERWARDS = {"match": "So far so good", "steps": [{"text": "Finished."}], "loop": True}
SUMMED_UP: dict[str, Any] = {"loop": True, "branches": [SUMMARY, AFTERWARDS]}


async def prompts(acting: Stage) -> list[str]:
    return [json.dumps(request["body"]["messages"]) for request in await acting.requests()]


async def test_long_job_fits_into_a_small_window_without_old_outputs(tmp_path: Path) -> None:
    script = issue_with_script(*[{"tools": [OUTPUT]}] * 25, {"text": "Done."}, window=TOKENS)
    async with stage(tmp_path) as acting:
        result = await acting.work(script, **SMALL)
        asked = await acting.requests()

    assert result.summary == "Done."
    assert [request["outcome"] for request in asked] == ["ok"] * 26
    outputs = [m["content"][0]["content"] for m in result.transcript[2::2]]
    assert outputs[0] == "[output of this earlier call left out: 5999 characters]"
    assert [len(output) for output in outputs[-3:]] == [5999] * 3
    assert ASK_FOR_SUMMARY not in str(asked)


async def test_prompt_is_read_from_the_cache_except_after_a_step(tmp_path: Path) -> None:
    script = issue_with_script(*[{"tools": [OUTPUT]}] * 25, {"text": "Done."}, window=TOKENS)
    async with stage(tmp_path) as acting:
        await acting.work(script, **SMALL)
    usages = [turn.usage for turn in acting.watcher.turns[1:]]

    reads = [usage.cache_read_tokens for usage in usages]
    steps = [read for before, read in itertools.pairwise(reads) if read < before]
    assert 0 < len(steps) < len(reads) / 3
    assert min(reads) >= acting.watcher.turns[0].usage.cache_write_tokens


async def test_conversation_without_outputs_to_leave_out_is_summed_up(tmp_path: Path) -> None:
    script = issue_with_script(SPOKEN, window=TOKENS, **SUMMED_UP)
    async with stage(tmp_path) as acting:
        result = await acting.work(script, **SMALL)
        asked = await prompts(acting)

    assert result.summary == "Finished."
    assert [ASK_FOR_SUMMARY in json.loads(prompt)[-1]["content"][-1].get("text", "")
            for prompt in asked[-2:]] == [True, False]  # fmt: skip
    anew = json.loads(asked[-1])
    assert anew[0]["content"][-1]["text"] == f"{SUMMARY_HEAD}\n\nSo far so good."
    assert len(anew) < 10 < len(json.loads(asked[-2]))
    assert [turn.number for turn in acting.watcher.turns] == list(range(1, len(asked)))
    assert acting.watcher.turns[-1].transcript == tuple(result.transcript)


async def test_summary_is_paid_for_by_the_turn_that_needed_it(tmp_path: Path) -> None:
    script = issue_with_script(SPOKEN, window=TOKENS, **SUMMED_UP)
    async with stage(tmp_path) as acting:
        result = await acting.work(script, **SMALL)
    *_, before, last = acting.watcher.turns

    assert last.usage.tokens > before.usage.tokens + 2_000
    assert result.usage.tokens == sum(turn.usage.tokens for turn in acting.watcher.turns)


async def test_summed_up_conversation_can_be_resumed(tmp_path: Path) -> None:
    then = [{"text": "No."}, {"text": "No."}, {"tools": [bash("touch late")]}, {"text": "End."}]
    branches = [SUMMARY, {"match": "So far so good", "steps": [*then, {"text": "Finished."}]}]
    script = issue_with_script(SPOKEN, window=TOKENS, loop=True, branches=branches)
    async with stage(tmp_path) as acting:
        whole = await acting.work(script, **SMALL)
        turns = acting.watcher.turns
        summed_up = next(turn for turn in turns if SUMMARY_HEAD in str(turn.transcript))
        await acting.agent(**SMALL).work(
            issue(script), acting.sandbox, acting.watcher, resume=stored(summed_up)
        )

    assert turns[-1].number == whole.turns
    assert turns[-1].transcript[-1] == turns[whole.turns - 1].transcript[-1]


@pytest.mark.parametrize(
    "refusal",
    [
        {"failures": [{"status": 413}]},
        {"stop_reason": "model_context_window_exceeded", "tools": [bash("touch half")]},
    ],
    ids=["too large a request", "window exceeded by the reply"],
)
async def test_conversation_that_the_server_cannot_take_is_begun_anew(
    tmp_path: Path, refusal: dict[str, Any]
) -> None:
    steps = [{"tools": [OUTPUT]}, {"text": "Never.", **refusal}]
    async with stage(tmp_path) as acting:
        result = await acting.work(issue_with_script(*steps, **{**SUMMED_UP, "loop": False}))

    assert result.summary == "Finished."
    assert not (tmp_path / "half").exists()
    assert [turn.number for turn in acting.watcher.turns] == [1, 2]


async def test_prompt_that_is_too_long_is_begun_anew(tmp_path: Path) -> None:
    script = issue_with_script({"tools": [OUTPUT] * 8}, window=8_000, **SUMMED_UP)
    async with stage(tmp_path) as acting:
        result = await acting.work(script)
        outcomes = [request["outcome"] for request in await acting.requests()]

    assert result.summary == "Finished."
    assert outcomes == ["ok", "400", "ok", "ok"]


@pytest.mark.parametrize("window", [1_000, 3_000], ids=["at once", "after a summary"])
async def test_task_that_never_fits_ends_the_job_with_advice(tmp_path: Path, window: int) -> None:
    said = {"text": "word " * 2_500, "tools": [OUTPUT]}
    async with stage(tmp_path) as acting:
        with pytest.raises(Permanent, match="no longer fits") as caught:
            await acting.work(issue_with_script(said, window=window, **SUMMED_UP))

    assert "smaller part" in caught.value.advice


async def test_overtaken_agent_asks_for_no_summary(tmp_path: Path) -> None:
    script = issue_with_script(SPOKEN, window=TOKENS, **SUMMED_UP)
    async with stage(tmp_path) as acting:
        acting.watcher.stop_at, acting.watcher.stop_with = 2, Overtaken()
        with pytest.raises(Overtaken):
            await acting.work(script, **SMALL)

        assert len(await acting.requests()) == 2
