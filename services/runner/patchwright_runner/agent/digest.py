"""A short account of a conversation, for a program that goes on without being able to read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchwright_runner.agent.hidden_text import one_line
from patchwright_runner.agent.narration import summary

ENTRIES = 40
ENTRY_CHARACTERS = 400


def digest(transcript: Sequence[Mapping[str, Any]]) -> str:
    """The last things that were said and done, the oldest first, a line each."""
    entries = list(_entries(transcript))
    left_out = [f"({len(entries) - ENTRIES} earlier entries)"] if len(entries) > ENTRIES else []
    return "\n".join([*left_out, *entries[-ENTRIES:]])


def _entries(transcript: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for message in transcript:
        content = message.get("content")
        if message.get("role") != "assistant" or not isinstance(content, list):
            continue
        for block in content:
            if block.get("type") == "text" and block["text"].strip():
                yield f"- said: {one_line(block['text'], ENTRY_CHARACTERS)}"
            elif block.get("type") == "tool_use":
                yield f"- did: {summary(block['name'], block['input'])}"
