"""The lines of JSON that a program in the sandbox prints, as they arrive: sizes bounded, no trust.

A line may come in any number of pieces. What is not a JSON object is passed over, because programs
print warnings too; the last of it is kept for the case that the program fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

LINE_BYTES = 4 * 1024**2
"""Of one line. Claude Code's longest hold a file that it has read."""
KEPT_BYTES = 2048
"""Of what was no JSON."""


class Lines:
    """Takes bytes as they come and gives back whole objects."""

    def __init__(self, most: int = LINE_BYTES) -> None:
        self._most = most
        self._begun = bytearray()
        self._skipping = False
        self._stray = b""
        self.dropped = 0
        """Lines that were longer than they may be."""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The objects whose lines end in `data`."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._take(piece)
            yield from self._finish()
        self._take(rest)

    def close(self) -> Iterator[dict[str, Any]]:
        """The last line, which may have no end."""
        yield from self._finish()

    @property
    def stray(self) -> str:
        """The end of what was no JSON object, such as a program's last words."""
        return self._stray.decode(errors="replace").strip()

    def _take(self, piece: bytes) -> None:
        if self._skipping or len(self._begun) + len(piece) > self._most:
            self._begun.clear()
            self._skipping = True
            return
        self._begun += piece

    def _finish(self) -> Iterator[dict[str, Any]]:
        line = bytes(self._begun)
        self._begun.clear()
        if self._skipping:
            self._skipping = False
            self.dropped += 1
        elif (found := _object(line)) is not None:
            yield found
        elif line.strip():
            self._stray = (self._stray + line + b"\n")[-KEPT_BYTES:]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
