"""The claude agent goes on from a checkpoint, and after it had come to an end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from patchwright_common.errors import Overtaken, Permanent
from patchwright_runner.agent import AgentResult, Budget, Checkpoint, Turn
from standin_model.scripting import bash, issue_with_script

from .agent_at_work import Stage, issue, stage

TEN_TURNS = "scenario: ten-turns"
CHECKED = issue_with_script(
    {"tools": [bash("echo wrong > answer")]},
    {"text": "It is done."},
    {"tools": [bash("echo right > answer")]},
    {"text": "Now it is "},
    {"text": "really done."},
)


def stored(turn: Turn) -> Checkpoint:
    """As it comes back from an object store."""
    return Checkpoint(turn.number, json.loads(json.dumps(turn.transcript)))


async def go_on(acting: Stage, checkpoint: Checkpoint, body: str, **more: Any) -> AgentResult:
    feedback = more.pop("feedback", "")
    return await acting.agent(**more).work(
        issue(body), acting.sandbox, acting.watcher, resume=checkpoint, feedback=feedback
    )


def shape(messages: Any) -> list[Any]:
    """Roles and kinds: ids and tags are random."""
    return [(m["role"], [block["type"] for block in m["content"]]) for m in messages]


@pytest.mark.parametrize("killed_after", [1, 5, 9])
async def test_resumed_agent_goes_on_with_the_next_turn(tmp_path: Path, killed_after: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    async with stage(tmp_path / "whole") as acting:
        undisturbed = await acting.work(TEN_TURNS)

    async with stage(tmp_path / "killed") as acting:
        acting.watcher.stop_at, acting.watcher.stop_with = killed_after, Overtaken()
        with pytest.raises(Overtaken):
            await acting.work(TEN_TURNS)
        result = await go_on(acting, stored(acting.watcher.turns[-1]), TEN_TURNS)
        asked = await acting.requests()

    assert [turn.number for turn in acting.watcher.turns] == list(range(1, 11))
    assert [request["step"] for request in asked] == list(range(10))
    assert result.turns == undisturbed.turns == 10
    assert result.summary == undisturbed.summary
    assert shape(result.transcript) == shape(undisturbed.transcript)
    assert (tmp_path / "killed/notes.txt").read_text().count("\n") == 9


async def test_each_turn_holds_the_conversation_so_far(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        result = await acting.work(TEN_TURNS)
        bodies = [request["body"] for request in await acting.requests()]

    transcripts = [turn.transcript for turn in acting.watcher.turns]
    assert [len(transcript) for transcript in transcripts] == [3, 5, 7, 9, 11, 13, 15, 17, 19, 20]
    assert transcripts[-1] == tuple(result.transcript)
    for transcript, body in zip(transcripts, bodies[1:], strict=False):
        assert shape(transcript) == shape(body["messages"])


async def test_agent_resumed_after_its_last_words_asks_for_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        before = await acting.work(issue_with_script({"text": "It works as it is."}))
        again = await go_on(acting, stored(acting.watcher.turns[-1]), "")

        assert len(await acting.requests()) == 1
    assert (again.summary, again.turns) == (before.summary, 1)
    assert again.usage.tokens == 0


async def test_agent_that_hears_feedback_goes_on_and_ends_anew(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        first = await acting.work(CHECKED)
        checkpoint = Checkpoint(first.turns, first.transcript)
        second = await go_on(acting, checkpoint, CHECKED, feedback="The tests fail: \ud800 wrong")
        heard = (await acting.requests())[2]["body"]["messages"][-1]

    assert first.summary == "It is done."
    assert second.summary == "Now it is"
    assert (tmp_path / "answer").read_text() == "right\n"
    assert heard["role"] == "user"
    assert heard["content"][0]["text"] == "The tests fail: ? wrong"
    assert [turn.number for turn in acting.watcher.turns] == [1, 2, 3, 4]


async def test_text_that_was_cut_off_before_the_crash_is_part_of_the_summary(
    tmp_path: Path,
) -> None:
    halves = [{"text": "One half ", "stop_reason": "max_tokens"}, {"text": "and the other."}]
    async with stage(tmp_path) as acting:
        acting.watcher.stop_at, acting.watcher.stop_with = 1, Overtaken()
        with pytest.raises(Overtaken):
            await acting.work(issue_with_script(*halves))
        result = await go_on(acting, stored(acting.watcher.turns[-1]), "")

    assert result.summary == "One half and the other."


async def test_turns_before_the_crash_count(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        acting.watcher.stop_at, acting.watcher.stop_with = 3, Overtaken()
        with pytest.raises(Overtaken):
            await acting.work("scenario: endless")
        with pytest.raises(Permanent, match="budget of 5 turns"):
            await go_on(acting, stored(acting.watcher.turns[-1]), "", budget=Budget(turns=5))

    assert [turn.number for turn in acting.watcher.turns] == [1, 2, 3, 4, 5]


async def test_rounds_of_feedback_share_one_budget(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        agent = acting.agent(budget=Budget(tokens=100))
        task = issue(CHECKED)
        with pytest.raises(Permanent, match="budget of 100 tokens"):
            await agent.work(task, acting.sandbox, acting.watcher)
        checkpoint = stored(acting.watcher.turns[-1])
        with pytest.raises(Permanent, match="budget of 100 tokens"):
            await agent.work(
                task, acting.sandbox, acting.watcher, resume=checkpoint, feedback="Still wrong."
            )

        assert len(await acting.requests()) == 1


async def test_refused_reply_is_no_part_of_the_conversation(tmp_path: Path) -> None:
    refused = {"text": "I cannot", "tools": [bash("touch made")], "stop_reason": "refusal"}
    async with stage(tmp_path) as acting:
        with pytest.raises(Permanent, match="declined"):
            await acting.work(issue_with_script(refused))

    assert shape(acting.watcher.turns[-1].transcript) == [("user", ["text"])]
    assert not (tmp_path / "made").exists()
