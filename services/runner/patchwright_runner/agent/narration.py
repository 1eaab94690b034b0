"""What Claude Code tells of its own work, as turns and tool calls.

It prints one message for each block of a reply, with the results of early tools in between, so a
turn is over when the next reply begins. Subagents' messages belong to the call that started them.
Everything here was written inside the sandbox: whatever is not as expected is passed over.
Source of the format: the program itself, 2.1.332, and the types of its SDK
(https://code.claude.com/docs/en/agent-sdk/typescript, `SDKMessage`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from patchwright_runner.agent.hidden_text import one_line
from patchwright_runner.agent.protocol import ToolCall
from patchwright_runner.agent.tools import OUTPUT_CHARACTERS, SUMMARY_CHARACTERS, clip
from patchwright_runner.sandbox.protocol import WORKSPACE

Message = Mapping[str, Any]

TRANSCRIPT_CHARACTERS = 8_000_000
"""Of all texts together; after that the transcript ends with a note."""
BLOCK_CHARACTERS = 100
"""What a block counts besides its texts."""
FULL = "[the transcript is full; what followed is left out]"
CALLS = 500
"""Of one reply. More are not the model's, but somebody's who prints such lines himself."""
NAME_CHARACTERS = 60
SYNTHETIC = "<synthetic>"
"""The model of a reply that the program made up itself, to show an error."""
CUT_OFF = "Output token limit hit"
"""How the program begins its request to go on with a reply that was cut off."""


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call is done."""

    id: str
    call: ToolCall


@dataclass(frozen=True, slots=True)
class TurnOver:
    """A reply of the model and all of its tool calls are done."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """The program's last message about itself."""

    failed: bool
    kind: str
    text: str
    """The model's last words, or what went wrong."""
    status: int | None
    """Of the answer that made it give up."""
    denied: tuple[str, ...]
    """Names of the tools that its permissions did not allow, once for each call."""


@dataclass
class _Reply:
    id: str
    started: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    """By the call's id: its tool, its summary, when it began."""
    calls: list[ToolCall] = field(default_factory=list)


class Narration:
    """Hears the messages of one run after the other, and keeps the conversation."""

    def __init__(
        self, transcript: Sequence[Message] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._reply: _Reply | None = None
        self._room = TRANSCRIPT_CHARACTERS
        self._is_full = False
        self._worked: set[str] = set()
        self.transcript: list[dict[str, Any]] = [dict(message) for message in transcript]
        """In the shape of the Messages API."""
        self.session = ""
        self.ending: Ending | None = None
        self.refusal: str | None = None
        """The category of the model's refusal, if that is why it ended; may be empty."""

    def hear(self, message: Message) -> Iterator[Called | TurnOver]:
        """What has happened by this message."""
        match message.get("type"):
            case "system":
                self._hear_system(message)
            case "assistant" if message.get("parent_tool_use_id") is None:
                yield from self._hear_reply(_mapping(message.get("message")))
            case "user" if message.get("parent_tool_use_id") is None:
                yield from self._hear_results(_mapping(message.get("message")))
            case "result":
                self._hear_ending(message)

    def finish(self) -> Iterator[TurnOver]:
        """The turn that was under way when the program ended."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        for name, summary, began in reply.started.values():
            reply.calls.append(ToolCall(name, summary, self._clock() - began, failed=True))
        yield TurnOver(tuple(reply.calls))

    def say(self, text: str) -> None:
        """Put into the conversation what the program is told."""
        self.ending = self.refusal = None
        self._append("user", [{"type": "text", "text": self._kept(text)}])

    @property
    def between_calls(self) -> bool:
        """The reply's calls so far are done, and it has not ended with a text."""
        reply = self._reply
        return self.ending is None and bool(reply and reply.calls and not reply.started)

    @property
    def never_allowed(self) -> tuple[str, ...]:
        """Tools that were denied and did not work a single time."""
        denied = self.ending.denied if self.ending else ()
        return tuple(sorted(set(denied) - self._worked))

    def _hear_system(self, message: Message) -> None:
        kind = _text(message.get("subtype"))
        if kind == "init":
            self.session = _name(message.get("session_id"))
        elif kind.startswith("model_refusal"):
            self.refusal = _name(message.get("api_refusal_category"))

    def _hear_reply(self, reply: Message) -> Iterator[TurnOver]:
        if reply.get("model") == SYNTHETIC:
            return
        name = _name(reply.get("id"))
        if self._reply is None or name != self._reply.id:
            yield from self.finish()
            self._reply = _Reply(name)
        blocks = [kept for block in _blocks(reply) if (kept := self._said(block, self._reply))]
        if blocks:
            self._append("assistant", blocks)

    def _said(self, block: Message, reply: _Reply) -> dict[str, Any] | None:
        match block.get("type"):
            case "text":
                return {"type": "text", "text": self._kept(_text(block.get("text")))}
            case "thinking":
                return {"type": "thinking", "thinking": self._kept(_text(block.get("thinking")))}
            case "tool_use":
                name, use = _name(block.get("name")), _name(block.get("id"))
                fields = _mapping(block.get("input"))
                if len(reply.started) + len(reply.calls) < CALLS:
                    reply.started[use] = (name, summary(name, fields), self._clock())
                return {"type": "tool_use", "id": use, "name": name, "input": self._input(fields)}
        return None

    def _hear_results(self, message: Message) -> Iterator[Called]:
        blocks: list[dict[str, Any]] = []
        for block in _blocks(message):
            if block.get("type") == "text":
                blocks.append({"type": "text", "text": self._kept(_text(block.get("text")))})
            elif block.get("type") == "tool_result":
                blocks.append(self._result(block))
                yield from self._called(block)
        if blocks:
            self._append("user", blocks)

    def _called(self, block: Message) -> Iterator[Called]:
        use = _name(block.get("tool_use_id"))
        if self._reply is None or use not in self._reply.started:
            return
        name, shown, began = self._reply.started.pop(use)
        failed = block.get("is_error") is True
        if not failed:
            self._worked.add(name)
        call = ToolCall(name, shown, self._clock() - began, failed)
        self._reply.calls.append(call)
        yield Called(use, call)

    def _hear_ending(self, message: Message) -> None:
        denials = message.get("permission_denials")
        errors = message.get("errors")
        said = message.get("result") or (errors[0] if isinstance(errors, list) and errors else "")
        status = message.get("api_error_status")
        if message.get("stop_reason") == "refusal":
            self.refusal = self.refusal or ""
        self.ending = Ending(
            failed=message.get("is_error") is not False,
            kind=_name(message.get("subtype")),
            text=_text(said),
            status=status if isinstance(status, int) else None,
            denied=tuple(
                _name(_mapping(denial).get("tool_name"))
                for denial in (denials if isinstance(denials, list) else ())
            ),
        )

    def _result(self, block: Message) -> dict[str, Any]:
        content = block.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        texts = [
            _text(part.get("text")) if part.get("type") == "text" else f"[{part.get('type')}]"
            for part in map(_mapping, parts)
        ]
        return {
            "type": "tool_result",
            "tool_use_id": _name(block.get("tool_use_id")),
            "content": self._kept(clip("\n".join(texts), OUTPUT_CHARACTERS)),
            **({"is_error": True} if block.get("is_error") is True else {}),
        }

    def _input(self, fields: Message) -> dict[str, Any]:
        """Texts may be whole files."""
        return {
            _name(key): self._kept(clip(value, OUTPUT_CHARACTERS))
            if isinstance(value, str)
            else json.loads(self._kept(json.dumps(value)) or "null")
            for key, value in fields.items()
        }

    def _kept(self, text: str) -> str:
        self._room -= len(text) + BLOCK_CHARACTERS
        return text if self._room >= 0 else ""

    def _append(self, role: str, blocks: list[dict[str, Any]]) -> None:
        """Neighbours with the same role are one message, as the API has it."""
        if self._is_full:
            return
        if self._room < 0:
            self._is_full = True
            blocks = [{"type": "text", "text": FULL}]
        if self.transcript and self.transcript[-1]["role"] == role:
            last = self.transcript[-1]
            self.transcript[-1] = {"role": role, "content": [*last["content"], *blocks]}
        else:
            self.transcript.append({"role": role, "content": blocks})


def last_words(transcript: Sequence[Message]) -> str:
    """What the model wrote since it was last told something, a reply in two halves as one."""
    said: list[str] = []
    for message in reversed(transcript):
        texts = [_text(b.get("text")) for b in _blocks(message) if b.get("type") == "text"]
        if message.get("role") == "assistant":
            said.append("".join(texts))
        elif not (texts and texts[0].startswith(CUT_OFF)):
            break
    return "".join(reversed(said)).strip()


def summary(name: str, fields: Message) -> str:
    """One line for people: the command, or what happens to which file."""
    if isinstance(command := fields.get("command"), str):
        return one_line(command, SUMMARY_CHARACTERS)
    keys = ("pattern", "file_path", "notebook_path", "path", "description")
    words = [_text(fields[key]).removeprefix(f"{WORKSPACE}/") for key in keys if key in fields]
    return one_line(" ".join([name.lower(), *words]), SUMMARY_CHARACTERS)


def _blocks(message: Message) -> list[Message]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_mapping(block) for block in content] if isinstance(content, list) else []


def _mapping(value: object) -> Message:
    return value if isinstance(value, dict) else {}


def _name(value: object) -> str:
    return one_line(_text(value), NAME_CHARACTERS)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
