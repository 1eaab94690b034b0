"""The `claude-code` agent: the real Claude Code program, without a person, inside the sandbox.

The program has its own loop and its own tools. It reaches the model through the door alone, and
what it prints becomes the same turns and tool calls as those of our own agent. What it spent is
what the gateway counted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.trace import Span

from patchwright_common.telemetry import span, told
from patchwright_runner.agent.aftermath import check_run
from patchwright_runner.agent.claude_code_program import command, environment
from patchwright_runner.agent.digest import digest
from patchwright_runner.agent.limits import out_of_turns
from patchwright_runner.agent.narration import Called, Narration, last_words
from patchwright_runner.agent.program import ModelDoor, OpenDoor, Order, Supervisor
from patchwright_runner.agent.prompt import opening_message
from patchwright_runner.agent.protocol import (
    AgentResult,
    Budget,
    Checkpoint,
    Observer,
    Task,
    ToolCall,
    Turn,
    Usage,
)
from patchwright_runner.agent.rules import RULES, resumed
from patchwright_runner.agent.stream_json import Lines
from patchwright_runner.sandbox.protocol import Result, Sandbox

NOTHING_SAID = "Claude Code finished without a word about what it did."


class ClaudeCodeAgent:
    """Made for one job. Its box must show the program at `claude_code_program.IN_BOX`."""

    def __init__(
        self,
        *,
        open_door: OpenDoor,
        model: str,
        budget: Budget = Budget(),  # noqa: B008 - frozen
    ) -> None:
        self._open_door = open_door
        self._model = model
        self._budget = budget
        self._supervisor = Supervisor(budget)
        self._door: ModelDoor | None = None
        self._session = ""
        self._box: Sandbox | None = None

    async def work(
        self,
        task: Task,
        sandbox: Sandbox,
        observer: Observer,
        *,
        resume: Checkpoint | None = None,
        feedback: str = "",
    ) -> AgentResult:
        """See Agent.work. In the box of an earlier call its session goes on."""
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.agent.name": "claude-code",
            "gen_ai.request.model": self._model,
        }
        turns = resume.turns if resume else 0
        if self._door is None:
            self._door = self._open_door(turns=turns)
        if self._box is not sandbox:
            self._box, self._session = sandbox, ""
        narration = Narration(resume.transcript if resume else ())
        if not feedback:
            self._session = ""
        prompt = feedback if self._session else _prompt(task, resume, feedback)
        narration.say(prompt)
        report = _Report(narration, self._door, observer, self._budget, turns)
        with span("run agent", attributes=attributes) as current:
            await self._run(sandbox, self._door, report, prompt)
            result = report.result()
            _describe(current, result)
            return result

    async def _run(self, sandbox: Sandbox, door: ModelDoor, report: _Report, prompt: str) -> None:
        order = Order(
            command(self._model, rules=RULES, session=self._session),
            stdin=prompt.encode("utf-8", "replace"),
            environment=environment(self._model),
            heard=report.hear,
        )
        result = await self._supervisor.run(sandbox, door, order)
        self._session = report.narration.session or self._session
        await report.close(result)


class _Report:
    """Hears one run of the program and tells the observer of its turns."""

    def __init__(
        self,
        narration: Narration,
        door: ModelDoor,
        observer: Observer,
        budget: Budget,
        turns: int,
    ) -> None:
        self.narration = narration
        self._door = door
        self._observer = observer
        self._budget = budget
        self._turns = turns
        self._lines = Lines()
        self._before = self._told = door.usage
        self._began = time.monotonic()

    async def hear(self, data: bytes) -> None:
        """Raises what the observer raises, and Permanent for more turns than there may be."""
        for message in self._lines.feed(data):
            await self._take(message)

    async def close(self, result: Result) -> None:
        """After the program's end: its last turn, and whether it came to a good end at all."""
        for message in self._lines.close():
            await self._take(message)
        for over in self.narration.finish():
            await self._tell(over.calls, box_is_busy=False)
        check_run(self.narration, result, fault=self._door.fault, stray=self._lines.stray)

    def result(self) -> AgentResult:
        """What the program did in this run."""
        ending = self.narration.ending
        said = last_words(self.narration.transcript) or (ending.text.strip() if ending else "")
        return AgentResult(
            said or NOTHING_SAID,
            _difference(self._door.usage, self._before),
            self._turns,
            self.narration.transcript,
        )

    async def _take(self, message: Mapping[str, Any]) -> None:
        for happening in self.narration.hear(message):
            if isinstance(happening, Called):
                _trace(happening)
            else:
                await self._tell(happening.calls, box_is_busy=True)

    async def _tell(self, calls: Sequence[ToolCall], *, box_is_busy: bool) -> None:
        if self._turns >= self._budget.turns:
            raise out_of_turns(self._budget)
        self._turns += 1
        usage, now = self._door.usage, time.monotonic()
        turn = Turn(
            self._turns,
            _difference(usage, self._told),
            tuple(calls),
            now - self._began,
            tuple(self.narration.transcript),
            box_is_busy,
        )
        self._told, self._began = usage, now
        await self._observer.turn_finished(turn)


def _prompt(task: Task, resume: Checkpoint | None, feedback: str) -> str:
    content = opening_message(task)["content"]
    blocks: Sequence[Any] = [] if isinstance(content, str) else list(content)
    parts = [content] if isinstance(content, str) else [b["text"] for b in blocks if "text" in b]
    if resume:
        tag = f"record-{secrets.token_hex(8)}"
        parts.append(resumed(resume.turns, digest(resume.transcript), tag))
    return "\n\n".join([*parts, *([feedback] if feedback else [])])


def _difference(now: Usage, before: Usage) -> Usage:
    return Usage(
        now.input_tokens - before.input_tokens,
        now.output_tokens - before.output_tokens,
        now.cache_read_tokens - before.cache_read_tokens,
        now.cache_write_tokens - before.cache_write_tokens,
        now.dollars - before.dollars,
    )


def _trace(called: Called) -> None:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": called.call.name,
        "gen_ai.tool.call.id": called.id,
        "patchwright.tool.summary": called.call.summary,
    }
    told("call tool", called.call.seconds, failed=called.call.failed, attributes=attributes)


def _describe(current: Span, result: AgentResult) -> None:
    current.set_attributes(
        {
            "patchwright.agent.turns": result.turns,
            "gen_ai.usage.input_tokens": result.usage.input_tokens,
            "gen_ai.usage.output_tokens": result.usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": result.usage.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": result.usage.cache_write_tokens,
            "patchwright.cost.dollars": result.usage.dollars,
        }
    )
