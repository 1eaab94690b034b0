"""The model's tools: Anthropic's published bash and text editor, executed in the sandbox.

Their schemas are known to the model by type, so that no description is sent. Sources: the types
`ToolBash20250124Param` and `ToolTextEditor20250728Param` of the `anthropic` SDK 2.12, the newest
that it has, and https://platform.claude.com/docs/en/agents-and-tools/tool-use/ (`bash-tool`,
`text-editor-tool`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from anthropic.types import (
    ToolBash20250124Param,
    ToolResultBlockParam,
    ToolTextEditor20250728Param,
    ToolUnionParam,
)
from opentelemetry.trace import Status, StatusCode

from patchwright_common.telemetry import span
from patchwright_runner.agent.hidden_text import one_line
from patchwright_runner.agent.protocol import ToolCall
from patchwright_runner.sandbox.protocol import Result, Sandbox, ToolError

BASH: Final[ToolBash20250124Param] = {"type": "bash_20250124", "name": "bash"}
TEXT_EDITOR: Final[ToolTextEditor20250728Param] = {
    "type": "text_editor_20250728",
    "name": "str_replace_based_edit_tool",
}
TOOLS: Final[tuple[ToolUnionParam, ...]] = (BASH, TEXT_EDITOR)

COMMAND_SECONDS = 300.0
OUTPUT_CHARACTERS = 30_000
SUMMARY_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call as the model wrote it: `input` may be anything."""

    id: str
    name: str
    input: object


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model gets back, and what people see of it."""

    result: ToolResultBlockParam
    call: ToolCall


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Executes calls one after the other, as a box does one thing at a time.

    Whatever the model got wrong becomes its tool result.
    """

    sandbox: Sandbox
    command_seconds: float = COMMAND_SECONDS
    output_characters: int = OUTPUT_CHARACTERS

    async def call(self, use: ToolUse) -> Outcome:
        """Raises what the sandbox raises when it is the sandbox that failed."""
        summary = summarize(use)
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": one_line(use.name, SUMMARY_CHARACTERS),
            "gen_ai.tool.call.id": use.id,
            "patchwright.tool.summary": summary,
        }
        started = time.monotonic()
        with span("call tool", attributes=attributes) as current:
            try:
                text, failure = await self._execute(use)
                refused = False
            except ToolError as error:
                text, failure, refused = str(error), "refused", True
            if failure:
                current.set_status(Status(StatusCode.ERROR, failure))
        call = ToolCall(use.name, summary, time.monotonic() - started, bool(failure))
        return Outcome(_result(use, clip(text, self.output_characters), refused), call)

    async def _execute(self, use: ToolUse) -> tuple[str, str]:
        """What the model reads, and how the call failed, in no words of the box."""
        if not isinstance(use.input, Mapping):
            raise ToolError("The input must be a JSON object.")
        if use.name == BASH["name"]:
            return await self._bash(use.input)
        if use.name == TEXT_EDITOR["name"]:
            return await self._edit(use.input), ""
        raise ToolError(f"There is no tool called {one_line(use.name, 60)}.")

    async def _bash(self, fields: Mapping[str, Any]) -> tuple[str, str]:
        if fields.get("restart") is True and "command" not in fields:
            return "Every command runs in a fresh shell; there is nothing to restart.", ""
        command = _text(fields, "command")
        result = await self.sandbox.run(command, timeout=self.command_seconds)
        failure = _failure(result, self.command_seconds)
        notes = ["[output was longer; its middle is left out]"] if result.truncated else []
        notes += [f"[{failure}]"] if failure else []
        return "\n".join(part for part in (result.output.rstrip("\n"), *notes) if part), failure

    async def _edit(self, fields: Mapping[str, Any]) -> str:
        command, path = _text(fields, "command"), _text(fields, "path")
        match command:
            case "view":
                return await self.sandbox.view(path, _view_range(fields))
            case "create":
                return await self.sandbox.create(path, _text(fields, "file_text"))
            case "str_replace":
                old, new = _text(fields, "old_str"), _text(fields, "new_str", default="")
                return await self.sandbox.str_replace(path, old, new)
            case "insert":
                # Documented as `insert_text`; older pages and models say `new_str`.
                key = "insert_text" if "insert_text" in fields else "new_str"
                line = _number(fields.get("insert_line"), "insert_line")
                return await self.sandbox.insert(path, line, _text(fields, key))
        raise ToolError("`command` is one of view, create, str_replace and insert.")


def not_executed(use: ToolUse) -> Outcome:
    """For a call that may be cut off in its middle: half a command is another command."""
    text = "Your reply was cut off before this call was complete. It was not executed."
    return Outcome(_result(use, text, refused=True), ToolCall(use.name, summarize(use), 0.0, True))


def summarize(use: ToolUse) -> str:
    """One line for people: the command, or what happens to which file."""
    fields = use.input if isinstance(use.input, Mapping) else {}
    words = [str(fields[key]) for key in ("command", "path") if isinstance(fields.get(key), str)]
    return one_line(" ".join(words) or use.name, SUMMARY_CHARACTERS)


def clip(text: str, limit: int) -> str:
    """Beginning and end of a text that is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    left_out = len(text) - limit
    return f"{text[: limit // 2]}\n[… {left_out} characters left out …]\n{text[-limit // 2 :]}"


def _result(use: ToolUse, text: str, refused: bool) -> ToolResultBlockParam:
    result: ToolResultBlockParam = {
        "type": "tool_result",
        "tool_use_id": use.id,
        # Half a surrogate pair, as some file names hold, cannot be sent.
        "content": text.encode("utf-8", "replace").decode() or "(no output)",
    }
    if refused:
        result["is_error"] = True
    return result


def _failure(result: Result, limit: float) -> str:
    if result.timed_out:
        return f"stopped: the command ran longer than {limit:g} seconds"
    return "" if result.exit_code == 0 else f"exit code {result.exit_code}"


def _text(fields: Mapping[str, Any], key: str, *, default: str | None = None) -> str:
    value = fields.get(key, default)
    if not isinstance(value, str):
        raise ToolError(f"`{key}` is required and must be a string.")
    return value


def _number(value: object, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ToolError(f"`{key}` is required and must be a whole number.")
    return value


def _view_range(fields: Mapping[str, Any]) -> tuple[int, int] | None:
    given = fields.get("view_range")
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 2:
        raise ToolError("`view_range` must be a list of two line numbers.")
    return _number(given[0], "view_range"), _number(given[1], "view_range")
