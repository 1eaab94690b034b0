"""Where a request asks the server to keep the prompt, so that the next one reads it from there.

A mark writes the prompt up to its block, and finds what was written at one of the 19 blocks before
it; a request has at most four. Tools stand before the system prompt and are kept with it. Source:
https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from anthropic.types import CacheControlEphemeralParam, MessageParam, TextBlockParam

MARK: Final[CacheControlEphemeralParam] = {"type": "ephemeral"}


def marked_system(text: str) -> list[TextBlockParam]:
    """The first of the four marks: the same for every job."""
    return [{"type": "text", "text": text, "cache_control": MARK}]


def with_marks(messages: Sequence[MessageParam]) -> list[MessageParam]:
    """A copy with the other three; the conversation itself stays without.

    The task's mark is found again after old outputs were left out. The mark where the last request
    ended is needed when a turn brought so many calls and results that the new end does not look
    back far enough.
    """
    ends = {0, _last_end(messages), len(messages) - 1}
    return [_marked(m) if index in ends else m for index, m in enumerate(messages)]


def _last_end(messages: Sequence[MessageParam]) -> int:
    """The message that the last reply answered."""
    replies = [index for index, m in enumerate(messages) if m["role"] == "assistant"]
    return max(replies[-1] - 1, 0) if replies else 0


def _marked(message: MessageParam) -> MessageParam:
    content = message["content"]
    blocks: list[Any] = (
        [{"type": "text", "text": content}] if isinstance(content, str) else [*content]
    )
    blocks[-1] = {**blocks[-1], "cache_control": MARK}
    return cast(MessageParam, {**message, "content": blocks})
