"""The `command` agent: any program that changes a working tree, chosen by the operator.

It runs in the sandbox with the repository as its working directory. The contract, which
docs/agents.md describes for users:

- The task comes on standard input and in the file that PATCHWRIGHT_TASK names, as Markdown with our
  rules; PATCHWRIGHT_TASK_JSON names its parts as JSON.
- ANTHROPIC_BASE_URL leads to the model that PATCHWRIGHT_MODEL names. Each reply is a turn.
- Exit code 0 is a result: what is in the file that PATCHWRIGHT_SUMMARY names, else the end of the
  output. 75 (EX_TEMPFAIL of sysexits.h) is worth another try, everything else is not.
- After a failed verification it runs again in the same box: PATCHWRIGHT_FEEDBACK names a file that
  says what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from patchwright_common.errors import Permanent, Retry
from patchwright_runner.agent.hidden_text import visible_text
from patchwright_runner.agent.program import (
    FILE_SECONDS,
    Exchange,
    ModelDoor,
    OpenDoor,
    Order,
    Supervisor,
    deliver,
)
from patchwright_runner.agent.protocol import (
    AgentResult,
    Budget,
    Checkpoint,
    CutOff,
    Observer,
    Task,
    Usage,
)
from patchwright_runner.agent.rules import rules_for_file, task_blocks, text_of
from patchwright_runner.agent.tally import Tally, finished, running
from patchwright_runner.sandbox.protocol import Result, Sandbox

FOLDER = "/tmp/patchwright"  # noqa: S108 - in the sandbox
TASK = f"{FOLDER}/issue.md"
TASK_JSON = f"{FOLDER}/issue.json"
FEEDBACK = f"{FOLDER}/feedback.md"
SUMMARY = f"{FOLDER}/summary.md"
TRY_AGAIN = 75
LAST_LINES = 20
LAST_CHARACTERS = 2000


class CommandAgent:
    """Made for one job. `command` is for the sandbox's shell."""

    def __init__(
        self,
        *,
        open_door: OpenDoor,
        command: str,
        model: str,
        budget: Budget = Budget(),  # noqa: B008 - frozen
    ) -> None:
        self._open_door = open_door
        self._command = command
        self._model = model
        self._budget = budget
        self._supervisor = Supervisor(budget)
        self._door: ModelDoor | None = None
        self._tally: Tally | None = None

    async def work(
        self,
        task: Task,
        sandbox: Sandbox,
        observer: Observer,
        *,
        resume: Checkpoint | None = None,
        feedback: str = "",
    ) -> AgentResult:
        """See Agent.work."""
        turns = resume.turns if resume else 0
        if self._door is None:
            self._door = self._open_door(turns=turns, finished=self._hear)
        tally = self._tally = Tally(self._door, observer, self._budget, turns)
        text = f"{rules_for_file(SUMMARY)}\n\n{text_of(task_blocks(task, resume))}\n"
        with running("command", self._model) as current:
            await _prepare(sandbox, task, text, feedback)
            result = await self._supervisor.run(sandbox, self._door, self._order(text, feedback))
            _check(result, self._door.fault)
            said = await _summary(sandbox) or _end(result.output)
            transcript = [_message("user", text), _message("assistant", result.output)]
            return finished(current, AgentResult(said, tally.usage, tally.turns, transcript))

    def _order(self, text: str, feedback: str) -> Order:
        environment = {
            "PATCHWRIGHT_TASK": TASK,
            "PATCHWRIGHT_TASK_JSON": TASK_JSON,
            "PATCHWRIGHT_SUMMARY": SUMMARY,
            "PATCHWRIGHT_MODEL": self._model,
            **({"PATCHWRIGHT_FEEDBACK": FEEDBACK} if feedback else {}),
        }
        return Order(self._command, _bytes(text), environment)

    @property
    def used(self) -> Usage:
        """See Agent.used."""
        return self._door.usage if self._door else Usage()

    async def _hear(self, exchange: Exchange) -> None:
        """A reply that broke off is no turn; what it cost counts with the next one."""
        if exchange.complete and self._tally is not None:
            await self._tally.turn(box_is_busy=True)


async def _prepare(sandbox: Sandbox, task: Task, text: str, feedback: str) -> None:
    """The files, and no summary of an earlier run."""
    await sandbox.run(f"rm -rf {FOLDER}; mkdir -m 700 {FOLDER}", timeout=FILE_SECONDS)
    files = {TASK: text, TASK_JSON: json.dumps(_parts(task), indent=1), FEEDBACK: feedback}
    for path, content in files.items():
        if content:
            await deliver(sandbox, path, _bytes(content))


async def _summary(sandbox: Sandbox) -> str:
    """What the program wrote for people; empty when it wrote nothing."""
    read = f"[ -f {SUMMARY} ] && cat {SUMMARY}"
    result = await sandbox.run(read, timeout=FILE_SECONDS)
    return result.output.strip() if result.exit_code == 0 else ""


def _check(result: Result, fault: Permanent | Retry | None) -> None:
    """What the model's server said is the better reason for a program's giving up."""
    if result.exit_code == 0:
        return
    if fault is not None:
        raise fault
    said = _end(result.output)
    if result.exit_code == TRY_AGAIN:
        raise CutOff("The agent's command asks for another try.")
    raise Permanent(
        f"The agent's command ended with exit code {result.exit_code}.",
        details=_quoted(said),
        advice="Operators: PATCHWRIGHT_AGENT_COMMAND is the command.",
    )


def _end(output: str) -> str:
    """The last lines, as far as they are fit for a comment."""
    shown = visible_text("\n".join(output.strip().splitlines()[-LAST_LINES:])).text
    return shown[-LAST_CHARACTERS:].strip()


def _quoted(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _parts(task: Task) -> dict[str, Any]:
    """Without what a person does not see on GitHub."""
    return {
        "repository": task.repository,
        "issue_number": task.issue_number,
        "title": visible_text(task.title).text,
        "body": visible_text(task.body).text,
        "conversation": [
            {"author": remark.author, "text": visible_text(remark.text).text}
            for remark in task.conversation
        ],
        "request": visible_text(task.request).text,
    }


def _message(role: str, text: str) -> Mapping[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
