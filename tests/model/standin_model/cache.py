"""The prompt cache: what was marked once is read again when a request begins with the same blocks.

As https://platform.claude.com/docs/en/build-with-claude/prompt-caching describes it: a prefix is
written where a block is marked; each mark looks for a written prefix that ends at its own block or
at one of the 19 before it; an entry lives for five minutes from its last use; a prefix of fewer
tokens than the least is not cached, without an error.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from standin_model.usage import block_tokens, prompt_blocks

LOOK_BACK = 20
"""Blocks that a mark looks at, its own included."""
LIFETIME = 300.0
"""Seconds."""
LEAST = 512
"""Tokens; 512 to 4,096 at the real API, depending on the model."""


@dataclass
class PromptCache:
    """Written prefixes by their hash, with the time of their last use."""

    _used: dict[str, float] = field(default_factory=dict)

    def prompt_usage(
        self, body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]
    ) -> dict[str, int | dict[str, int]]:
        """The input side of a `usage` object; writes what the request marks."""
        now = time.monotonic()
        prefixes = _prefixes(body, messages)
        total = prefixes[-1].tokens
        marks = [index for index, prefix in enumerate(prefixes) if prefix.marked]
        read = max((self._found(prefixes, mark, now) for mark in marks), default=0)
        cached = [prefixes[mark] for mark in marks if prefixes[mark].tokens >= LEAST]
        self._used |= {prefix.digest: now for prefix in cached}
        written = max([0, *(prefix.tokens for prefix in cached)]) - read
        return {
            "input_tokens": total - read - written,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "cache_creation": {
                "ephemeral_5m_input_tokens": written,
                "ephemeral_1h_input_tokens": 0,
            },
        }

    def _found(self, prefixes: Sequence[_Prefix], mark: int, now: float) -> int:
        """Tokens of the longest written prefix that this mark finds."""
        for prefix in reversed(prefixes[max(mark + 1 - LOOK_BACK, 0) : mark + 1]):
            if now - self._used.get(prefix.digest, -LIFETIME) < LIFETIME:
                self._used[prefix.digest] = now
                return prefix.tokens
        return 0


@dataclass(frozen=True)
class _Prefix:
    """A prompt up to and with one of its blocks."""

    digest: str
    tokens: int
    marked: bool


def _prefixes(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> list[_Prefix]:
    """A mark on the body itself stands for one on the last block."""
    digest, tokens = hashlib.sha256(str(body["model"]).encode()), 0
    prefixes = []
    placed = prompt_blocks(body, messages)
    for index, (place, block) in enumerate(placed):
        bare = {key: value for key, value in block.items() if key != "cache_control"}
        digest.update(json.dumps([place, bare], sort_keys=True).encode())
        tokens += block_tokens(block)
        last = index == len(placed) - 1
        marked = "cache_control" in block or (last and "cache_control" in body)
        prefixes.append(_Prefix(digest.hexdigest(), tokens, marked))
    return prefixes
