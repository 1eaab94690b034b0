"""Each request reads from the prompt cache what the one before it wrote."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from patchwright_runner.agent import Turn
from standin_model.scripting import bash, issue_with_script

from .agent_at_work import stage


def reads_all_of_the_one_before(turns: list[Turn]) -> bool:
    """Up to the few tokens of the block that the mark stands on, if any."""
    usages = [turn.usage for turn in turns]
    return all(
        then.cache_read_tokens == before.cache_read_tokens + before.cache_write_tokens
        for before, then in itertools.pairwise(usages)
    )


@pytest.mark.parametrize("parallel", [1, 12, 40])
async def test_next_turn_reads_the_whole_prompt_of_the_one_before(
    tmp_path: Path, parallel: int
) -> None:
    steps = [{"text": "Look.", "tools": [bash("true")] * parallel}] * 4
    async with stage(tmp_path) as acting:
        await acting.work(issue_with_script(*steps, {"text": "Done."}))

    turns = acting.watcher.turns
    assert turns[0].usage.cache_write_tokens > 500
    assert all(turn.usage.input_tokens == 0 for turn in turns)
    assert reads_all_of_the_one_before(turns)


async def test_second_job_reads_the_system_prompt_and_the_tools(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        for words in ("One.", "Another."):
            await acting.work(issue_with_script({"text": "Yes."}, words=words))
    first, second = (turn.usage for turn in acting.watcher.turns)

    assert first.cache_read_tokens == 0
    assert 500 < second.cache_read_tokens < first.cache_write_tokens


async def test_request_holds_at_most_four_marks_and_the_conversation_none(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        result = await acting.work("scenario: ten-turns")
        bodies = [request["body"] for request in await acting.requests()]

    counts = [json.dumps(body).count("cache_control") for body in bodies]
    assert counts == [2, 3, *[4] * 8]
    for body in bodies:
        assert body["system"][-1]["cache_control"] == {"type": "ephemeral"}
        assert body["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in json.dumps(result.transcript)
