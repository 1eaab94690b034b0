"""Plausible token counts: a quarter of the characters, and a fixed number for an image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

CHARACTERS_PER_TOKEN = 4
IMAGE_TOKENS = 1_500
"""About what a screenshot takes; the real API counts (width x height) / 750."""


def count(value: object) -> int:
    """Of a text or of anything that is fit for JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def block_tokens(block: Mapping[str, Any]) -> int:
    """Of a content block or tool; a cache mark on it counts nothing."""
    if block.get("type") == "image":
        return IMAGE_TOKENS
    return count({key: value for key, value in block.items() if key != "cache_control"})


def prompt_blocks(
    body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]
) -> list[tuple[str, Mapping[str, Any]]]:
    """All of a prompt in the order in which it is cached, each block with its place's name."""
    system = body.get("system") or []
    placed = [("tools", tool) for tool in body.get("tools") or []]
    placed += [("system", block) for block in _blocks(system)]
    for message in messages:
        placed += [(message["role"], block) for block in _blocks(message["content"])]
    return placed


def prompt_tokens(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> int:
    """What a request asks the model to read."""
    return sum(block_tokens(block) for _, block in prompt_blocks(body, messages))


def _blocks(content: str | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
