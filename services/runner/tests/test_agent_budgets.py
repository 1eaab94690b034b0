"""An agent that does not come to an end is ended, with a sentence for the maintainer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from patchwright_common.errors import Permanent
from patchwright_runner.agent import Budget
from standin_model.scripting import bash, issue_with_script

from .agent_at_work import stage


@pytest.mark.parametrize(
    ("budget", "words", "turns"),
    [
        (Budget(turns=4), "budget of 4 turns", 4),
        (Budget(tokens=3000), "budget of 3,000 tokens", None),
        (Budget(dollars=0.02), "budget of $0.02", None),
    ],
    ids=["turns", "tokens", "dollars"],
)
async def test_endless_agent_stops_at_its_budget(
    tmp_path: Path, budget: Budget, words: str, turns: int | None
) -> None:
    async with stage(tmp_path) as acting:
        with pytest.raises(Permanent) as caught:
            await acting.work("scenario: endless", budget=budget)

    used = [turn.usage for turn in acting.watcher.turns]
    assert words in caught.value.reason
    assert "raise the budget" in caught.value.advice
    assert len(used) == (turns or len(used))
    assert sum(usage.tokens for usage in used[:-1]) < budget.tokens
    assert sum(usage.dollars for usage in used[:-1]) < budget.dollars


@pytest.mark.parametrize(
    "step", [{"tools": [bash("sleep 30")]}, {"text": "Slow.", "delay": 30}], ids=["tool", "model"]
)
async def test_time_runs_out_in_the_middle_of_anything(tmp_path: Path, step) -> None:
    started = time.monotonic()
    async with stage(tmp_path) as acting:
        with pytest.raises(Permanent, match=r"budget of 0\.5 s"):
            await acting.work(issue_with_script(step), budget=Budget(seconds=0.5))

    assert time.monotonic() - started < 10


async def test_agent_that_finishes_in_its_last_turn_has_finished(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        result = await acting.work("scenario: ten-turns", budget=Budget(turns=10))

    assert result.turns == 10


async def test_command_that_takes_too_long_is_the_models_problem(tmp_path: Path) -> None:
    script = issue_with_script({"tools": [bash("sleep 30")]}, {"text": "Too slow."})
    async with stage(tmp_path) as acting:
        result = await acting.work(script, command_seconds=0.2)

    answer = result.transcript[2]["content"][0]["content"]
    assert answer == "[stopped: the command ran longer than 0.2 seconds]"
    assert acting.watcher.turns[0].tool_calls[0].failed
