"""A step as the Message object that the API answers with."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from standin_model.scenario import Step, ToolUse
from standin_model.usage import count

REFUSAL = {
    "type": "refusal",
    "category": "cyber",
    "explanation": "The scripted model was told to refuse this request.",
}


@dataclass(frozen=True)
class Block:
    """One content block and the text that is streamed for it."""

    content: dict[str, Any]
    streamed: str


@dataclass(frozen=True)
class Reply:
    """Everything about one reply, whether it is streamed or not."""

    id: str
    model: str
    blocks: tuple[Block, ...]
    stop_reason: str
    prompt_usage: Mapping[str, Any]

    @property
    def usage(self) -> dict[str, Any]:
        output = 2 + sum(count(block.streamed) for block in self.blocks)
        return {**self.prompt_usage, "output_tokens": output, "service_tier": "standard"}

    @property
    def stop_details(self) -> dict[str, str] | None:
        return REFUSAL if self.stop_reason == "refusal" else None

    def message(self) -> dict[str, Any]:
        """The whole Message, as a request without `stream` gets it."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [block.content for block in self.blocks],
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "stop_details": self.stop_details,
            "usage": self.usage,
        }


def build_reply(
    step: Step, *, model: str, tools_offered: bool, prompt_usage: Mapping[str, Any]
) -> Reply:
    """A request that offers no tools gets the step's text only, as a real model would answer."""
    blocks: list[Block] = []
    if step.thinking:
        content = {"type": "thinking", "thinking": step.thinking, "signature": _id("sig")}
        blocks.append(Block(content, step.thinking))
    tools = step.tools if tools_offered else ()
    text = step.text or ("" if tools or not step.tools else "I was offered no tools to work with.")
    if text:
        blocks.append(Block({"type": "text", "text": text, "citations": None}, text))
    blocks += [_tool_block(tool) for tool in tools]
    stop_reason = "end_turn" if step.tools and not tools else step.stop_reason
    return Reply(_id("msg"), model, tuple(blocks), stop_reason, prompt_usage)


def _tool_block(tool: ToolUse) -> Block:
    content = {
        "type": "tool_use",
        "id": _id("toolu"),
        "name": tool.name,
        "input": dict(tool.input),
        "caller": {"type": "direct"},
    }
    streamed = json.dumps(tool.input) if tool.raw_input is None else tool.raw_input
    return Block(content, streamed)


def _id(kind: str) -> str:
    return f"{kind}_01{secrets.token_hex(11)}"
