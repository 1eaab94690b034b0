"""The claude agent at work, asked by the scripted model over HTTP, with a real folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import patchwright_local
from patchwright_common.errors import Overtaken, Permanent
from patchwright_runner.agent import Remark
from standin_model.scripting import bash, edit, issue_with_script

from .agent_at_work import issue, stage

DEMO = Path(patchwright_local.__file__).parent / "demo_repository"


def unit_tests_pass(folder: Path) -> bool:
    command = [sys.executable, "-B", "-m", "unittest"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


async def test_demo_issue_is_fixed_and_its_tests_pass(tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)
    assert not unit_tests_pass(tmp_path)

    async with stage(tmp_path) as acting:
        result = await acting.work("It raises IndexError.", "Greeting crashes on an empty name")

    assert unit_tests_pass(tmp_path)
    assert result.summary.startswith("A badge without a name now greets a friend")
    assert [turn.number for turn in acting.watcher.turns] == [1, 2, 3, 4, 5, 6]
    assert result.turns == 6
    assert result.usage.dollars == pytest.approx(
        sum(turn.usage.dollars for turn in acting.watcher.turns)
    )


async def test_question_is_answered_without_a_change(tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)

    async with stage(tmp_path) as acting:
        result = await acting.work("What does salutation do at noon?")

    assert "`salutation(hour)` chooses the greeting" in result.summary
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in DEMO.iterdir())
    assert (tmp_path / "greeting.py").read_bytes() == (DEMO / "greeting.py").read_bytes()


async def test_parallel_calls_are_executed_in_order(tmp_path: Path) -> None:
    calls = [bash("sleep 0.2; echo one >> log"), bash("echo two >> log"), edit("view", path="log")]
    async with stage(tmp_path) as acting:
        result = await acting.work(issue_with_script({"tools": calls}, {"text": "Done."}))

    answers = result.transcript[2]["content"]
    asked = [b["id"] for b in result.transcript[1]["content"] if b["type"] == "tool_use"]
    assert [answer["tool_use_id"] for answer in answers] == asked
    assert answers[2]["content"] == "1\tone\n2\ttwo"


async def test_parallel_calls_are_all_answered_when_some_fail(tmp_path: Path) -> None:
    calls = [
        bash("echo one"),
        bash("echo two; exit 3"),
        {"name": "bash", "raw_input": '["ls"]'},
        {"name": "telnet", "input": {}},
        edit("view", path="missing"),
        bash("echo six > six"),
    ]
    async with stage(tmp_path) as acting:
        result = await acting.work(issue_with_script({"tools": calls}, {"text": "Done."}))
        (first, _) = await acting.requests()

    asked = [block["id"] for block in result.transcript[1]["content"]]
    answers = result.transcript[2]["content"]
    assert [answer["tool_use_id"] for answer in answers] == asked
    assert [answer.get("is_error", False) for answer in answers] == [
        *(False, False),
        *(True, True, True),
        False,
    ]
    assert answers[1]["content"] == "two\n[exit code 3]"
    assert (tmp_path / "six").read_text() == "six\n"
    assert [call.failed for call in acting.watcher.turns[0].tool_calls] == [
        *(False, True, True, True, True),
        False,
    ]
    assert "disable_parallel_tool_use" not in str(first["body"].get("tool_choice"))


@pytest.mark.parametrize("reason", ["pause_turn", "a_reason_of_tomorrow"])
async def test_reply_that_stopped_for_another_reason_is_continued(
    tmp_path: Path, reason: str
) -> None:
    steps = [
        {"text": "One, ", "stop_reason": reason},
        {"text": "two.", "tools": [bash("touch half")], "stop_reason": reason},
        {"text": "Three, ", "stop_reason": reason},
        {"text": "four."},
    ]
    async with stage(tmp_path) as acting:
        result = await acting.work(issue_with_script(*steps))

    assert result.summary == "Three, four."
    assert not (tmp_path / "half").exists()
    assert "was not executed" in str(result.transcript[4]["content"])


async def test_wrong_tool_inputs_are_explained_to_the_model(tmp_path: Path) -> None:
    (tmp_path / "greeting.py").write_text("pass\n")

    async with stage(tmp_path) as acting:
        result = await acting.work("scenario: malformed")

    answers = [m["content"] for m in result.transcript if m["role"] == "user"][1:]
    refused = [a["content"] for turn in answers for a in turn if a.get("is_error")]
    assert result.summary == "It worked in the end: `whole.txt` is new."
    assert refused[0] == "`command` is required and must be a string."
    assert "`path` is required" in refused[1]
    assert "one of view, create" in refused[2]
    assert "`insert_line` is required" in refused[3]
    assert "no tool called web_search" in refused[4]


async def test_call_cut_off_at_the_limit_is_not_executed(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        await acting.work("scenario: malformed")

    assert not (tmp_path / "half.txt").exists()
    assert (tmp_path / "whole.txt").exists()


async def test_input_that_is_no_object_is_a_tool_result(tmp_path: Path) -> None:
    call = {"name": "bash", "raw_input": '["ls"]'}
    async with stage(tmp_path) as acting:
        result = await acting.work(issue_with_script({"tools": [call]}, {"text": "Sorry."}))

    assert result.summary == "Sorry."
    assert result.transcript[2]["content"][0]["content"] == "The input must be a JSON object."


async def test_final_text_cut_off_at_the_limit_is_continued(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        result = await acting.work("scenario: max-tokens")

    assert result.summary == "The answer has two halves, and here is the second."


async def test_text_between_tool_calls_is_not_part_of_the_summary(tmp_path: Path) -> None:
    steps = [{"text": "I look.", "tools": [bash("ls")]}, {"text": "Only this is published."}]
    async with stage(tmp_path) as acting:
        result = await acting.work(issue_with_script(*steps))

    assert result.summary == "Only this is published."


async def test_silent_end_is_asked_for_a_final_message(tmp_path: Path) -> None:
    steps = [{"tools": [bash("ls")]}, {"thinking": "Hm."}, {"text": "There was nothing to do."}]
    async with stage(tmp_path) as acting:
        result = await acting.work(issue_with_script(*steps))

    assert result.summary == "There was nothing to do."
    assert result.turns == 3


async def test_refusal_ends_the_job_for_good(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        with pytest.raises(Permanent) as caught:
            await acting.work("scenario: refusal")

    assert caught.value.reason == "The model declined to work on this issue (category: cyber)."
    assert caught.value.advice
    assert len(acting.watcher.turns) == 1


async def test_overtaken_agent_stops_after_its_turn(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        acting.watcher.stop_at, acting.watcher.stop_with = 3, Overtaken()
        with pytest.raises(Overtaken):
            await acting.work("scenario: ten-turns")

    assert (tmp_path / "notes.txt").read_text().count("\n") == 3


async def test_whole_conversation_goes_with_every_request(tmp_path: Path) -> None:
    async with stage(tmp_path) as acting:
        result = await acting.work("scenario: ten-turns")
        bodies = [request["body"] for request in await acting.requests()]

    assert [len(body["messages"]) for body in bodies] == list(range(1, 20, 2))
    assert all("thread" not in body for body in bodies)
    assert len(result.transcript) == 20
    assert result.turns == 10


async def test_thinking_is_sent_back_as_it_came(tmp_path: Path) -> None:
    steps = [{"thinking": "Where is it?", "tools": [bash("ls")]}, {"text": "Done."}]
    async with stage(tmp_path) as acting:
        await acting.work(issue_with_script(*steps))
        sent = (await acting.requests())[-1]["body"]["messages"][1]["content"]

    assert sent[0]["thinking"] == "Where is it?"
    assert sent[0]["signature"].startswith("sig_")


async def test_comments_and_request_reach_the_model(tmp_path: Path) -> None:
    task = issue(
        issue_with_script({"text": "Yes."}),
        conversation=(Remark("octocat", "I see it too."),),
        request="@patchwright please look",
    )
    async with stage(tmp_path) as acting:
        await acting.agent().work(task, acting.sandbox, acting.watcher)
        text = (await acting.requests())[-1]["body"]["messages"][0]["content"][0]["text"]

    assert "octo/doorbell" in text
    assert "Issue: #7" in text
    assert 'source="a comment by octocat">\nI see it too.' in text
    assert "@patchwright please look" in text


async def test_key_is_in_no_transcript_log_or_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with stage(tmp_path) as acting:
        result = await acting.work("scenario: failures")

        assert acting.key not in json.dumps(result.transcript)
        assert acting.key not in caplog.text
        assert acting.key not in repr(acting.agent())
        assert acting.key not in repr(vars(acting.agent()))
