"""The server-sent events of a streamed reply, in the order and shape of the real API.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from standin_model.reply import Block, Reply

PIECE = 24
"""Characters in one delta."""


def events(reply: Reply) -> Iterator[dict[str, Any]]:
    """All events of a reply that goes well; each holds its name as `type`."""
    start = {**reply.message(), "content": [], "stop_reason": None, "stop_details": None}
    start["usage"] = {**reply.usage, "output_tokens": 1}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(reply.blocks):
        yield {"type": "content_block_start", "index": index, "content_block": _empty(block)}
        if index == 0:
            yield {"type": "ping"}
        for piece in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": piece}
        yield {"type": "content_block_stop", "index": index}
    delta: dict[str, Any] = {
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "stop_details": reply.stop_details,
    }
    usage = {k: v for k, v in reply.usage.items() if k.endswith("_tokens")}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


def encode(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _empty(block: Block) -> dict[str, Any]:
    blank: dict[str, dict[str, Any]] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    return {**block.content, **blank[block.content["type"]]}


def _deltas(block: Block) -> Iterator[dict[str, str]]:
    pieces = [block.streamed[i : i + PIECE] for i in range(0, len(block.streamed), PIECE)]
    match block.content["type"]:
        case "text":
            yield from ({"type": "text_delta", "text": piece} for piece in pieces)
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in pieces)
            yield {"type": "signature_delta", "signature": block.content["signature"]}
        case _:
            # The real API opens a tool's input with an empty piece.
            for piece in ["", *pieces]:
                yield {"type": "input_json_delta", "partial_json": piece}
