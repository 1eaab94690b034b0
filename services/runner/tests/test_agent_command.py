"""The command agent: any program in a real box, with the model behind a door."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.repositories import Repository
from patchwright_common.errors import Overtaken, Permanent
from patchwright_runner.agent import AgentResult, Checkpoint, Remark, Task, Usage
from patchwright_runner.agent.command import CommandAgent
from patchwright_runner.agent.program import NO_KEY
from patchwright_runner.agent.protocol import CutOff
from patchwright_runner.sandbox.protocol import Backend, BoxSpec, Sandbox
from standin_model.scripting import bash, issue_with_script

from .agent_at_work import Watcher, issue
from .conftest import LIMITS
from .model_behind_gateway import MODEL, ModelBehindGateway, model_behind_gateway

SMALL_AGENT = "python3 /opt/small-agent/small_agent.py"
PROGRAMS = {"/opt/small-agent": Path(__file__).parent}
only_bubblewrap = pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)


@dataclass
class CommandAtWork:
    model: ModelBehindGateway
    box: Sandbox
    base: str
    agent: CommandAgent
    watcher: Watcher = field(default_factory=Watcher)

    async def work(self, task: Task | str = "It crashes.", **more: Any) -> AgentResult:
        wanted = issue(task) if isinstance(task, str) else task
        return await self.agent.work(wanted, self.box, self.watcher, **more)


@asynccontextmanager
async def command_agent(
    backend: Backend, repository: Repository, command: str, **budget: Any
) -> AsyncIterator[CommandAtWork]:
    spec = BoxSpec("job-1", repository.bare, LIMITS, programs=PROGRAMS)
    async with model_behind_gateway(**budget) as model, await backend.start(spec) as box:
        await box.checkout(repository.base)
        agent = CommandAgent(
            open_door=model.gateway, command=command, model=MODEL, budget=model.budget
        )
        yield CommandAtWork(model, box, repository.base, agent)


async def works(backend: Backend, repository: Repository, command: str) -> AgentResult:
    async with command_agent(backend, repository, command) as acting:
        return await acting.work()


async def test_small_agent_changes_the_tree_through_the_gateway(
    backend: Backend, repository: Repository
) -> None:
    look = "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"
    steps = ({"tools": [bash(look)]}, {"tools": [bash("echo new > new.txt")]}, {"text": "Made it."})
    async with command_agent(backend, repository, SMALL_AGENT) as acting:
        result = await acting.work(issue_with_script(*steps))
        changed = {entry.path async for entry in acting.box.collect(acting.base)}
        asked = json.dumps(await acting.model.requests())

    assert (result.summary, result.turns, changed) == ("Made it.", 3, {"new.txt"})
    turns = acting.watcher.turns
    assert [turn.number for turn in turns] == [1, 2, 3]
    assert sum((turn.usage for turn in turns), Usage()).tokens == result.usage.tokens > 0
    assert all(turn.box_is_busy for turn in turns)
    assert NO_KEY in asked
    assert acting.model.key not in asked


@only_bubblewrap
async def test_task_is_on_standard_input_and_in_files(
    backend: Backend, repository: Repository
) -> None:
    command = 'cmp - "$PATCHWRIGHT_TASK" && cat "$PATCHWRIGHT_TASK_JSON" > "$PATCHWRIGHT_SUMMARY"'
    task = Task(
        *("octo/doorbell", 7, "A title", "Body <!-- hidden -->"),
        conversation=(Remark("mona", "Really?"),),
        request="Please do.",
    )
    async with command_agent(backend, repository, command) as acting:
        result = await acting.work(task)

    assert json.loads(result.summary) == {
        "repository": "octo/doorbell",
        "issue_number": 7,
        "title": "A title",
        "body": "Body [hidden comment removed]",
        "conversation": [{"author": "mona", "text": "Really?"}],
        "request": "Please do.",
    }


@only_bubblewrap
async def test_task_is_never_a_word_of_a_command(backend: Backend, repository: Repository) -> None:
    async with command_agent(backend, repository, "cat; ls") as acting:
        result = await acting.work("'; touch owned; '\nEOF\ntouch owned\n$(touch owned)")
        changed = [entry async for entry in acting.box.collect(acting.base)]

    assert "$(touch owned)" in result.transcript[1]["content"][0]["text"]
    assert changed == []


@only_bubblewrap
async def test_without_a_summary_the_end_of_the_output_counts(
    backend: Backend, repository: Repository
) -> None:
    result = await works(backend, repository, "seq 100; echo I am done.")

    assert result.summary.endswith("99\n100\nI am done.")
    assert not result.summary.startswith("1\n")


@only_bubblewrap
async def test_exit_code_75_is_another_try(backend: Backend, repository: Repository) -> None:
    with pytest.raises(CutOff, match="another try"):
        await works(backend, repository, "echo busy right now; exit 75")


@only_bubblewrap
async def test_other_exit_codes_are_failures_with_the_last_lines(
    backend: Backend, repository: Repository
) -> None:
    with pytest.raises(Permanent) as caught:
        await works(backend, repository, "echo no such model >&2; exit 3")

    assert caught.value.reason == "The agent's command ended with exit code 3."
    assert caught.value.details == "    no such model"


@only_bubblewrap
async def test_refused_key_is_the_better_reason(backend: Backend, repository: Repository) -> None:
    script = issue_with_script({"text": "x", "failures": [{"status": 401, "times": 9}]})
    async with command_agent(backend, repository, SMALL_AGENT) as acting:
        with pytest.raises(Permanent) as caught:
            await acting.work(script)

    assert caught.value.reason == "The model key was refused."


@only_bubblewrap
async def test_command_that_never_ends_is_ended(backend: Backend, repository: Repository) -> None:
    async with command_agent(backend, repository, "sleep 3600", seconds=1.0) as acting:
        with pytest.raises(Permanent, match="budget of 1 s"):
            await acting.work()


@only_bubblewrap
async def test_overtaken_command_is_ended(backend: Backend, repository: Repository) -> None:
    steps = ({"tools": [bash("sleep 3600")]}, {"text": "Done."})
    async with command_agent(backend, repository, SMALL_AGENT) as acting:
        acting.watcher.stop_at, acting.watcher.stop_with = 1, Overtaken()
        with pytest.raises(Overtaken):
            await acting.work(issue_with_script(*steps))


@only_bubblewrap
async def test_used_up_turns_end_the_command(backend: Backend, repository: Repository) -> None:
    steps = [{"tools": [bash(f"echo {number} >> count")]} for number in range(9)]
    async with command_agent(backend, repository, SMALL_AGENT, turns=2) as acting:
        with pytest.raises(Permanent, match="budget of 2 turns"):
            await acting.work(issue_with_script(*steps))


@only_bubblewrap
async def test_feedback_is_a_file_and_the_first_summary_is_gone(
    backend: Backend, repository: Repository
) -> None:
    command = (
        'if [ -n "$PATCHWRIGHT_FEEDBACK" ]; then ls /tmp/patchwright; cat "$PATCHWRIGHT_FEEDBACK"; '
        'else echo first > "$PATCHWRIGHT_SUMMARY"; fi'
    )
    async with command_agent(backend, repository, command) as acting:
        first = await acting.work()
        checkpoint = Checkpoint(first.turns, first.transcript)
        second = await acting.work(resume=checkpoint, feedback="The tests fail.")

    assert first.summary == "first"
    assert second.summary == "feedback.md\nissue.json\nissue.md\nThe tests fail."


@only_bubblewrap
async def test_interrupted_command_hears_that_it_was(
    backend: Backend, repository: Repository
) -> None:
    async with command_agent(backend, repository, "cat; exit 0") as acting:
        result = await acting.work(resume=Checkpoint(4, ()))

    assert "interrupted after 4 turns" in result.transcript[1]["content"][0]["text"]
    assert result.turns == 4
