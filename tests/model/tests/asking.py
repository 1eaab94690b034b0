"""Short ways to ask the stand-in something."""

from __future__ import annotations

from typing import Any

from anthropic import AsyncAnthropic
from anthropic.types import Message, MessageParam, ToolBash20250124Param

MODEL = "claude-opus-5-5"
BASH: ToolBash20250124Param = {"type": "bash_20250124", "name": "bash"}


def user(content: Any) -> MessageParam:
    return {"role": "user", "content": content}


async def ask(client: AsyncAnthropic, *messages: MessageParam) -> Message:
    return await client.messages.create(
        model=MODEL, max_tokens=1000, messages=messages, tools=[BASH]
    )


async def ask_streaming(client: AsyncAnthropic, *messages: MessageParam) -> Message:
    async with client.messages.stream(
        model=MODEL, max_tokens=1000, messages=messages, tools=[BASH]
    ) as stream:
        return await stream.get_final_message()


def results(reply: Message) -> MessageParam:
    """An answer to every tool call of a reply."""
    ids = [block.id for block in reply.content if block.type == "tool_use"]
    return user([{"type": "tool_result", "tool_use_id": i, "content": "done"} for i in ids])


def text(reply: Message) -> str:
    return "".join(block.text for block in reply.content if block.type == "text")
