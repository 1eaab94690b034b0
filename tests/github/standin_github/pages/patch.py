"""A patch as numbered lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
KINDS = {"+": "added", "-": "deleted", "@": "hunk", "\\": "note"}


@dataclass(frozen=True, slots=True)
class Line:
    kind: str
    old: int | None
    new: int | None
    sign: str
    text: str


def numbered(patch: str | None) -> list[Line]:
    lines: list[Line] = []
    old = new = 0
    for text in (patch or "").split("\n") if patch else []:
        kind = KINDS.get(text[:1], "context")
        match = HUNK.match(text) if kind == "hunk" else None
        if match is not None:
            old, new = int(match[1]), int(match[2])
        in_old, in_new = kind in {"context", "deleted"}, kind in {"context", "added"}
        plain = kind in {"hunk", "note"}
        lines.append(
            Line(
                kind,
                old if in_old else None,
                new if in_new else None,
                "" if plain else text[:1],
                text if plain else text[1:],
            )
        )
        old, new = old + in_old, new + in_new
    return lines
