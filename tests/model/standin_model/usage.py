"""Plausible token counts: a quarter of the characters, cached like the real API caches.

The prefix that the previous request of the conversation held counts as read from the cache and
the rest as written to it, if the request marks anything with `cache_control`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

CHARACTERS_PER_TOKEN = 4
BEHIND_THE_LAST_MARK = 3
"""Tokens that the real API reports as plain input when everything is marked."""


def count(value: object) -> int:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def prompt_tokens(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> int:
    return count(body.get("tools", [])) + count(body.get("system", "")) + count(list(messages))


def prompt_usage(
    body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]
) -> dict[str, int | dict[str, int]]:
    """The input side of a `usage` object."""
    total = prompt_tokens(body, messages)
    replies = [index for index, m in enumerate(messages) if m["role"] == "assistant"]
    marked = "cache_control" in json.dumps(
        [body.get("system"), body["messages"], body.get("tools")]
    )
    read = written = 0
    if marked or "cache_control" in body:
        read = min(prompt_tokens(body, messages[: replies[-1]]), total) if replies else 0
        written = max(total - read - BEHIND_THE_LAST_MARK, 0)
    return {
        "input_tokens": total - read - written,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
    }
