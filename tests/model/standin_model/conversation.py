"""What a request says about the conversation so far, read without remembering anything.

The step to play is the number of replies that the request already holds, so a client that was
killed and resumes with the same history gets the same reply again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

RANDOM_NUMBERS = re.compile(r"[0-9a-f]{16,}")
"""Clients put random boundaries into their prompts; two runs of one job are one conversation."""


def replies_so_far(messages: Sequence[Mapping[str, Any]]) -> int:
    """Neighbouring assistant messages are one turn, as the real API combines them."""
    return sum(role == "assistant" for role, _ in groupby(messages, lambda m: m["role"]))


def first_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    first = next((m for m in messages if m["role"] == "user"), {"content": ""})
    return text_of(first["content"])


def user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """All that the user wrote, tool results left out."""
    return "\n".join(text_of(m["content"]) for m in messages if m["role"] == "user")


def text_of(content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content if block.get("type") == "text")


def conversation_id(messages: Sequence[Mapping[str, Any]]) -> str:
    """The same for every request of a conversation and for a second run of it."""
    text = RANDOM_NUMBERS.sub("", first_user_text(messages))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
