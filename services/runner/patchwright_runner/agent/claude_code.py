"""The `claude-code` agent: the real Claude Code program, without a person, inside the sandbox.

The program has its own loop and its own tools. It reaches the model through the door alone, and
what it prints becomes the same turns and tool calls as those of our own agent. What it spent is
what the gateway counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from patchwright_common.errors import Permanent, Retry
from patchwright_common.telemetry import told
from patchwright_runner.agent.aftermath import check_run
from patchwright_runner.agent.claude_code_program import command, environment
from patchwright_runner.agent.narration import Called, Narration, last_words
from patchwright_runner.agent.program import ModelDoor, OpenDoor, Order, Supervisor
from patchwright_runner.agent.protocol import (
    AgentResult,
    Budget,
    Checkpoint,
    Observer,
    Task,
    Usage,
)
from patchwright_runner.agent.rules import RULES, task_blocks, text_block, text_of
from patchwright_runner.agent.stream_json import Lines
from patchwright_runner.agent.tally import Tally, finished, running
from patchwright_runner.sandbox.protocol import Result, Sandbox

PAUSE_SECONDS = 300.0
"""Between two moments in which the box is free, so that the workspace can be kept.

Each costs a second or two, and the reply that was just being written.
"""
GO_ON = "You were interrupted for a moment, from outside. Go on where you were."
NOTHING_SAID = "Claude Code finished without a word about what it did."


class ClaudeCodeAgent:
    """Made for one job. Its box must show the program at `claude_code_program.IN_BOX`."""

    def __init__(
        self,
        *,
        open_door: OpenDoor,
        model: str,
        budget: Budget = Budget(),  # noqa: B008 - frozen
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._open_door = open_door
        self._pause_seconds = pause_seconds
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
        turns = resume.turns if resume else 0
        if self._door is None:
            self._door = self._open_door(turns=turns)
        if self._box is not sandbox or not feedback:
            self._box, self._session = sandbox, ""
        narration = Narration(resume.transcript if resume else ())
        prompt = [] if self._session else task_blocks(task, resume)
        if feedback:
            prompt.append(text_block(feedback))
        tally = Tally(self._door, observer, self._budget, turns)
        with running("claude-code", self._model) as current:
            report = _Report(narration, tally, self._pause_seconds)
            while await self._is_paused(sandbox, self._door, report, prompt):
                prompt = [text_block(GO_ON)]
                report = _Report(narration, tally, self._pause_seconds)
            return finished(current, report.result())

    @property
    def used(self) -> Usage:
        """See Agent.used."""
        return self._door.usage if self._door else Usage()

    async def _is_paused(
        self, sandbox: Sandbox, door: ModelDoor, report: _Report, prompt: list[dict[str, Any]]
    ) -> bool:
        """One run of the program; whether it is to go on after it."""
        try:
            await self._run(sandbox, door, report, prompt)
        except _Pause:
            await report.rest()
            return True
        return False

    async def _run(
        self, sandbox: Sandbox, door: ModelDoor, report: _Report, prompt: list[dict[str, Any]]
    ) -> None:
        report.narration.say(text_of(prompt))
        order = Order(
            command(self._model, rules=RULES, session=self._session),
            stdin=_line(prompt),
            environment=environment(self._model),
            heard=report.hear,
        )
        try:
            result = await self._supervisor.run(sandbox, door, order)
        finally:
            self._session = report.narration.session or self._session
        await report.close(result, door.fault)


class _Pause(Exception):
    """The program is ended for a moment; its session goes on."""


class _Report:
    """Hears one run of the program and tells of its turns."""

    def __init__(self, narration: Narration, tally: Tally, pause_seconds: float) -> None:
        self.narration = narration
        self._tally = tally
        self._lines = Lines()
        self._pause_at = time.monotonic() + pause_seconds

    async def hear(self, data: bytes) -> None:
        """Raises what the observer raises, and Permanent for more turns than there may be."""
        for message in self._lines.feed(data):
            await self._take(message)

    async def rest(self) -> None:
        """During a pause: the turn is over as far as it came."""
        for over in self.narration.finish():
            await self._tally.turn(over.calls, self.narration.transcript)

    async def close(self, result: Result, fault: Permanent | Retry | None) -> None:
        """After the program's end: its last turn, and whether it came to a good end at all."""
        for message in self._lines.close():
            await self._take(message)
        await self.rest()
        check_run(self.narration, result, fault=fault, stray=self._lines.stray)

    def result(self) -> AgentResult:
        """What the program did in this run."""
        ending = self.narration.ending
        said = last_words(self.narration.transcript) or (ending.text.strip() if ending else "")
        return AgentResult(
            said or NOTHING_SAID,
            self._tally.usage,
            self._tally.turns,
            self.narration.transcript,
        )

    async def _take(self, message: Mapping[str, Any]) -> None:
        for happening in self.narration.hear(message):
            if isinstance(happening, Called):
                _trace(happening)
            else:
                transcript = self.narration.transcript
                await self._tally.turn(happening.calls, transcript, box_is_busy=True)
        narration = self.narration
        if narration.session and narration.between_calls and time.monotonic() >= self._pause_at:
            raise _Pause


def _line(content: list[dict[str, Any]]) -> bytes:
    """A message as the program reads it (`SDKUserMessage`), images included."""
    message = {"type": "user", "message": {"role": "user", "content": content}}
    return json.dumps(message).encode() + b"\n"


def _trace(called: Called) -> None:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": called.call.name,
        "gen_ai.tool.call.id": called.id,
        "patchwright.tool.summary": called.call.summary,
    }
    told("call tool", called.call.seconds, failed=called.call.failed, attributes=attributes)
