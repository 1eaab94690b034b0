"""What the model is scripted to do: the format of a scenario, checked as it is read.

A scenario is JSON: an object with `name`, `steps` and optionally `match`, `loop`, `window`,
`branches`, `description`, or the bare list of steps. README.md beside this package has the whole
format with examples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STREAM_FAILURES = frozenset({"drop", "end", "error", "hang"})
"""How a stream can go wrong after it began: the connection is torn, the stream ends without its
`message_stop`, an `error` event comes, or nothing more is sent."""


class ScenarioError(ValueError):
    """A scenario that cannot be played; the text says where it is wrong."""


@dataclass(frozen=True)
class ToolUse:
    """One tool call. `raw_input` is sent as it stands, so it may be JSON that does not parse."""

    name: str
    input: Mapping[str, Any]
    raw_input: str | None = None


@dataclass(frozen=True)
class Failure:
    """What goes wrong instead of the step, `times` times in each conversation, or for a while."""

    status: int | None = None
    stream: str | None = None
    times: int = 1
    seconds: float = 0.0
    """Counted from the first time; then `times` does not count."""
    retry_after: float | None = None
    """Seconds, sent as the `retry-after` header."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers of an HTTP error."""
    echo: bool = False
    """Whether the error's message repeats the key, as a careless gateway's may."""


@dataclass(frozen=True)
class Step:
    """One reply of the model."""

    text: str = ""
    thinking: str = ""
    tools: tuple[ToolUse, ...] = ()
    stop_reason: str = "end_turn"
    delay: float = 0.0
    """Seconds before the first byte."""
    pace: float = 0.0
    """Seconds between two pieces of a streamed reply."""
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """A whole conversation from the model's side."""

    name: str
    steps: tuple[Step, ...]
    match: re.Pattern[str] | None = None
    loop: bool = False
    window: int | None = None
    """Tokens of the model's context window, if smaller than the usual one."""
    branches: tuple[Scenario, ...] = ()
    """Played instead when their `match` is found in anything that the user wrote."""

    def branch(self, user_text: str) -> Scenario:
        """The script for a conversation in which the user wrote all of this."""
        for branch in self.branches:
            if branch.match and branch.match.search(user_text):
                return branch
        return self

    def step(self, number: int) -> Step:
        """The reply to a request that already holds `number` replies."""
        if self.loop:
            return self.steps[number % len(self.steps)]
        if number < len(self.steps):
            return self.steps[number]
        return Step(text="The script ends here: it has no step for this turn.")


def parse_scenario(data: object, *, name: str = "inline") -> Scenario:
    """Raises ScenarioError for anything that the format does not know."""
    if isinstance(data, list):
        data = {"steps": data}
    known = {"name", "description", "match", "loop", "steps", "window", "branches"}
    fields = _fields(data, name, known)
    steps = fields.get("steps")
    if not isinstance(steps, list) or not steps:
        raise ScenarioError(f"{name}: `steps` must be a list with at least one step")
    parsed = tuple(_step(step, f"{name}, step {number}") for number, step in enumerate(steps, 1))
    match = fields.get("match")
    branches = enumerate(_sequence(fields.get("branches", []), name), 1)
    return Scenario(
        name=str(fields.get("name", name)),
        steps=parsed,
        match=re.compile(match) if match else None,
        loop=bool(fields.get("loop", False)),
        window=fields.get("window"),
        branches=tuple(parse_scenario(b, name=f"{name}, branch {n}") for n, b in branches),
    )


def _step(data: object, where: str) -> Step:
    known = {"text", "thinking", "tools", "stop_reason", "delay", "pace", "failures"}
    fields = _fields(data, where, known)
    tools = tuple(_tool_use(tool, where) for tool in _sequence(fields.get("tools", []), where))
    return Step(
        text=fields.get("text", ""),
        thinking=fields.get("thinking", ""),
        tools=tools,
        stop_reason=fields.get("stop_reason", "tool_use" if tools else "end_turn"),
        delay=float(fields.get("delay", 0)),
        pace=float(fields.get("pace", 0)),
        failures=tuple(_failure(f, where) for f in _sequence(fields.get("failures", []), where)),
    )


def _tool_use(data: object, where: str) -> ToolUse:
    fields = _fields(data, where, {"name", "input", "raw_input"})
    if "name" not in fields:
        raise ScenarioError(f"{where}: a tool call needs a `name`")
    return ToolUse(fields["name"], fields.get("input", {}), fields.get("raw_input"))


def _failure(data: object, where: str) -> Failure:
    known = {"status", "stream", "times", "seconds", "retry_after", "headers", "echo"}
    failure = Failure(**_fields(data, where, known))
    if (failure.status is None) == (failure.stream is None):
        raise ScenarioError(f"{where}: a failure has either `status` or `stream`")
    if failure.stream is not None and failure.stream not in STREAM_FAILURES:
        raise ScenarioError(f"{where}: `stream` is one of {', '.join(sorted(STREAM_FAILURES))}")
    return failure


def _fields(data: object, where: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ScenarioError(f"{where}: expected an object")
    if unknown := sorted(set(data) - known):
        raise ScenarioError(
            f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}"
        )
    return data


def _sequence(data: object, where: str) -> Sequence[object]:
    if not isinstance(data, list):
        raise ScenarioError(f"{where}: expected a list")
    return data
