"""Counts what a reply costs while it passes by: whole, or as server-sent events.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming. The counts of
`message_delta` are totals, not additions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from patchwright_runner.agent.prices import priced
from patchwright_runner.agent.protocol import Usage

COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
HOUR_SURCHARGE = 0.6
"""An hour in the cache costs twice the price of a prompt, five minutes cost 1.25 times as much."""
BYTES_OF_A_TOKEN = 3
EVENT_OVERHEAD = 100
"""Bytes of a `content_block_delta` without its text."""
LINE_BYTES = 16 * 1024**2
"""A longer line is not looked at; no event that counts is."""


class Meter:
    """The counts of one reply so far."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._counts = dict.fromkeys(COUNTS, 0)
        self._hour = 0
        self._estimate = 0
        self._rest = b""
        self.complete = False
        """Whether the reply was seen to its end."""
        self.stop_reason = ""

    @property
    def usage(self) -> Usage:
        """A reply that broke off was paid for all the same: then by the length of what came."""
        output = self._counts["output_tokens"]
        usage = priced(
            self._model,
            Usage(
                input_tokens=self._counts["input_tokens"],
                output_tokens=output if self.complete else max(output, self._estimate),
                cache_read_tokens=self._counts["cache_read_input_tokens"],
                cache_write_tokens=self._counts["cache_creation_input_tokens"],
            ),
        )
        longer = priced(self._model, Usage(cache_write_tokens=self._hour))
        return usage + Usage(dollars=longer.dollars * HOUR_SURCHARGE)

    def feed(self, data: bytes) -> None:
        """The next piece of a stream of events, cut anywhere."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:])
        if len(self._rest) > LINE_BYTES:
            self._rest = b""

    def whole(self, body: bytes) -> None:
        """A reply that was not streamed."""
        message = _object(body)
        self._message(message)
        self.complete = message.get("type") == "message"

    def _event(self, data: bytes) -> None:
        if b'"content_block_delta"' in data:
            self._estimate += 1 + max(len(data) - EVENT_OVERHEAD, 0) // BYTES_OF_A_TOKEN
            return
        event = _object(data)
        match event.get("type"):
            case "message_start":
                self._message(_mapping(event.get("message")))
            case "message_delta":
                self._count(_mapping(event.get("usage")))
                self._stopped(_mapping(event.get("delta")))
            case "message_stop":
                self.complete = True

    def _message(self, message: Mapping[str, Any]) -> None:
        self._count(_mapping(message.get("usage")))
        self._stopped(message)

    def _stopped(self, fields: Mapping[str, Any]) -> None:
        reason = fields.get("stop_reason")
        if isinstance(reason, str):
            self.stop_reason = reason

    def _count(self, usage: Mapping[str, Any]) -> None:
        for name in COUNTS:
            if (count := _number(usage.get(name))) is not None:
                self._counts[name] = count
        created = _mapping(usage.get("cache_creation"))
        if (count := _number(created.get("ephemeral_1h_input_tokens"))) is not None:
            self._hour = count


def _object(data: bytes) -> Mapping[str, Any]:
    """Nothing for what is no JSON object: it costs the client a reply, not us the count."""
    try:
        return _mapping(json.loads(data))
    except ValueError:
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
