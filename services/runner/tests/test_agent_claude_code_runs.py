"""The claude-code agent around a program that plays a script."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from patchwright_common.errors import Overtaken, Permanent, Retry
from patchwright_common.telemetry import JOB_ID, job
from patchwright_runner.agent import AgentResult, Budget, Checkpoint, Usage
from patchwright_runner.agent.claude_code import ClaudeCodeAgent
from patchwright_runner.agent.program import DOOR_PORT, NO_KEY, PIECE
from patchwright_runner.agent.protocol import CutOff
from patchwright_runner.agent.rules import text_of
from patchwright_runner.sandbox.protocol import Result

from . import claude_code_lines as lines
from .agent_at_work import Watcher, issue
from .program_in_a_script import Ran, ScriptedBox, ScriptedDoor


class Stage:
    def __init__(self, *outputs: str | Result, pause_seconds: float = 3600, **budget: Any) -> None:
        self.door = ScriptedDoor()
        self.watcher = Watcher()
        self.box = ScriptedBox(
            parts=[o if isinstance(o, Result) else Result(o, 0) for o in outputs]
        )
        self.agent = ClaudeCodeAgent(
            open_door=self.door.open,
            model="claude-opus-5-5",
            budget=Budget(**budget),
            pause_seconds=pause_seconds,
        )

    async def work(self, body: str = "It crashes.", **more: Any) -> AgentResult:
        return await self.agent.work(issue(body), self.box, self.watcher, **more)


def read(run: Ran) -> str:
    """What the program was told."""
    return text_of(json.loads(run.stdin)["message"]["content"])


async def fails(output: str | Result, **door: Any) -> Permanent | Retry:
    stage = Stage(output)
    for name, value in door.items():
        setattr(stage.door, name, value)
    with pytest.raises((Permanent, Retry)) as caught:
        await stage.work()
    return caught.value  # type: ignore[return-value]


async def test_what_the_program_prints_becomes_turns() -> None:
    stage = Stage(lines.two_turns())
    result = await stage.work()

    assert result.summary == "It is done."
    assert result.turns == 2
    assert [t.number for t in stage.watcher.turns] == [1, 2]
    assert [c.name for c in stage.watcher.turns[0].tool_calls] == ["Bash", "Edit"]
    assert [t.box_is_busy for t in stage.watcher.turns] == [True, False]
    assert len(stage.watcher.turns[0].transcript) < len(result.transcript)


async def test_prompt_comes_on_standard_input_and_the_key_not_at_all() -> None:
    stage = Stage(lines.two_turns())
    await stage.work("Look at `/etc/hostname`; $(touch /tmp/x)")
    (run,) = stage.box.runs

    assert "$(touch /tmp/x)" in read(run)
    assert "touch" not in run.command
    assert run.environment["ANTHROPIC_API_KEY"] == NO_KEY
    assert list(run.doors) == [DOOR_PORT]


async def test_prompt_that_is_too_long_for_a_commands_input_comes_from_a_file() -> None:
    stage = Stage()
    stage.box.parts = [Result("", 0), Result("", 0), Result(lines.two_turns(), 0)]
    await stage.work("x" * (PIECE + 1))
    *pieces, run = stage.box.runs

    assert [len(piece.stdin) > 1 for piece in pieces] == [True, True]
    assert len(pieces[0].stdin) == PIECE
    assert pieces[1].command.startswith("cat >> ")
    assert run.command.startswith("exec < ")
    assert run.stdin == b""


async def test_cost_is_what_the_gateway_counted() -> None:
    stage = Stage(lines.two_turns())

    async def played() -> Result:
        stage.door.usage += Usage(input_tokens=7, dollars=0.5)
        return Result(lines.two_turns(), 0)

    stage.door.usage = Usage(input_tokens=100, dollars=9.0)
    stage.box.parts = [played]
    result = await stage.work()

    assert result.usage == Usage(input_tokens=7, dollars=0.5)
    assert sum(turn.usage.dollars for turn in stage.watcher.turns) == 0.5


async def test_overtaken_agent_stops_its_program() -> None:
    stage = Stage(lines.two_turns())
    stage.watcher.stop_at, stage.watcher.stop_with = 1, Overtaken()

    with pytest.raises(Overtaken):
        await stage.work()


async def test_used_up_budget_ends_the_program_at_once() -> None:
    stage = Stage()
    spent = Permanent("The agent used its budget of $5.00 without finishing.")

    async def plays_on() -> Result:
        stage.door.verdict = spent
        stage.door.stop.set()
        await asyncio.sleep(3600)
        raise AssertionError

    stage.box.parts = [plays_on]
    with pytest.raises(Permanent) as caught:
        await stage.work()
    assert caught.value is spent


async def test_verdict_counts_more_than_a_result() -> None:
    stage = Stage(lines.two_turns())
    stage.door.verdict = Permanent("The agent used its budget of 2 turns without finishing.")

    with pytest.raises(Permanent, match="2 turns"):
        await stage.work()


async def test_time_is_up_when_the_box_says_so() -> None:
    error = await fails(Result(lines.init(), None, timed_out=True))

    assert isinstance(error, Permanent)
    assert error.reason == "The agent used its budget of 30 minutes without finishing."


async def test_invented_turns_end_with_the_budget() -> None:
    made_up = "".join(lines.said(f"msg_{number}", "x") for number in range(100))

    with pytest.raises(Permanent, match="5 turns"):
        await Stage(made_up, turns=5).work()


async def test_failure_that_is_called_a_success_is_none() -> None:
    text = lines.init() + lines.ending("API Error: Overloaded", is_error=True, api_error_status=529)
    error = await fails(text)

    assert isinstance(error, Retry)
    assert error.reason == "Claude Code gave up after the model's server answered 529"


async def test_what_the_models_server_said_counts_before_the_programs_words() -> None:
    refused = Permanent("The model key was refused.")
    text = lines.ending("Invalid API key · Fix external API key", is_error=True)

    assert await fails(text, fault=refused) is refused


async def test_success_without_permission_to_edit_is_none() -> None:
    text = lines.two_turns() + lines.ending(permission_denials=[{"tool_name": "Edit"}])
    error = await fails(text)

    assert isinstance(error, Permanent)
    assert error.reason == "Claude Code was not allowed to use its tools (Edit)."


async def test_refusal_is_told_as_one() -> None:
    text = lines.line(
        type="system", subtype="model_refusal_no_fallback", api_refusal_category="cyber"
    ) + lines.ending("API Error: safeguards", is_error=True, stop_reason="refusal")
    error = await fails(text, fault=Permanent("There is no model claude-opus-4-8 for this key."))

    assert isinstance(error, Permanent)
    assert error.reason == "The model declined to work on this issue (category: cyber)."


async def test_end_at_its_own_limit_is_told_in_its_words() -> None:
    text = lines.ending(
        None, subtype="error_max_turns", is_error=True, errors=["Reached maximum number of turns"]
    )
    error = await fails(text)

    assert isinstance(error, Permanent)
    assert "Reached maximum number of turns" in error.details


async def test_killed_program_is_tried_again() -> None:
    error = await fails(Result(lines.init(), 137))

    assert isinstance(error, CutOff)
    assert error.reason == "Claude Code was killed by signal 9."


async def test_program_that_cannot_start_says_why() -> None:
    error = await fails(Result("bash: /opt/claude-code/claude: No such file", 127))

    assert isinstance(error, Permanent)
    assert "No such file" in error.details
    assert "PATCHWRIGHT_CLAUDE_CODE" in error.advice


async def test_feedback_goes_on_with_the_session_in_the_same_box() -> None:
    stage = Stage(lines.two_turns(), lines.said("msg_3", "Mended.") + lines.ending("Mended."))
    first = await stage.work()
    checkpoint = Checkpoint(first.turns, first.transcript)
    second = await stage.work(resume=checkpoint, feedback="The tests fail.")

    assert "--resume" not in stage.box.runs[0].command
    assert f"--resume {lines.SESSION}" in stage.box.runs[1].command
    assert read(stage.box.runs[1]) == "The tests fail."
    assert (second.summary, second.turns) == ("Mended.", 3)
    assert [turn.number for turn in stage.watcher.turns] == [1, 2, 3]
    assert len(second.transcript) == len(first.transcript) + 2


async def test_interrupted_work_begins_anew_with_a_record_of_it() -> None:
    first = await Stage(lines.two_turns()).work()
    stage = Stage(lines.said("msg_9", "Finished.") + lines.ending("Finished."))
    result = await stage.work(resume=Checkpoint(2, first.transcript), feedback="And mind the docs.")
    (run,) = stage.box.runs

    assert stage.door.turns == 2
    assert "--resume" not in run.command
    said = read(run)
    assert "It crashes." in said
    assert "interrupted after 2 turns" in said
    assert "- did: edit greeting.py\n- said: It is done.\n</record-" in said
    assert said.endswith("And mind the docs.")
    assert [turn.number for turn in stage.watcher.turns] == [3]
    assert result.turns == 3


async def test_long_work_pauses_between_calls_so_that_the_tree_can_be_kept() -> None:
    rest = lines.init() + lines.said("msg_2", "It is done.") + lines.ending("It is done.")
    stage = Stage(lines.two_turns(), rest, pause_seconds=0)
    result = await stage.work()

    first, second = stage.watcher.turns
    assert (first.box_is_busy, first.transcript[-1]["role"]) == (False, "user")
    assert [call.name for call in first.tool_calls] == ["Bash"]
    assert second.tool_calls == ()
    assert f"--resume {lines.SESSION}" in stage.box.runs[1].command
    assert read(stage.box.runs[1]).startswith("You were interrupted for a moment")
    assert (result.summary, result.turns) == ("It is done.", 2)


async def test_seconds_of_all_runs_are_one_budget() -> None:
    stage = Stage(lines.two_turns(), seconds=1000)

    async def plays_long() -> Result:
        await asyncio.sleep(0.1)
        return Result(lines.two_turns(), 0)

    stage.box.parts = [plays_long, Result(lines.two_turns(), 0)]
    first = await stage.work()
    await stage.work(resume=Checkpoint(first.turns, first.transcript), feedback="Again.")

    assert stage.box.runs[0].timeout == 1000
    assert stage.box.runs[1].timeout < 999.95


async def test_tool_calls_are_spans_of_the_run(spans: InMemorySpanExporter) -> None:
    with job("job-1"):
        await Stage(lines.two_turns()).work()

    (run,) = [span for span in spans.get_finished_spans() if span.name == "run agent"]
    calls = [span for span in spans.get_finished_spans() if span.name == "call tool"]
    assert [call.status.status_code for call in calls] == [StatusCode.UNSET, StatusCode.ERROR]
    assert {call.parent.span_id for call in calls if call.parent} == {run.context.span_id}
    assert all(dict(call.attributes or {})[JOB_ID] == "job-1" for call in calls)
    assert dict(run.attributes or {})["gen_ai.agent.name"] == "claude-code"


async def test_transcript_is_fit_for_json() -> None:
    result = await Stage(lines.two_turns()).work("half a pair: \ud83d")

    json.dumps(list(result.transcript)).encode()
