"""Take out of a text what its reader on GitHub does not see, and say that it was there.

A maintainer approves what is visible; instructions in an HTML comment or in invisible characters
would reach the model alone. Code blocks are no exception: what counts as one can be disputed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

COMMENTS = re.compile(
    r"<!--.*?-->"
    # A comment that begins a line and is never closed hides everything after it (CommonMark,
    # HTML blocks, kind 2).
    r"|^ {0,3}<!--.*\Z"
    # A link definition that nothing refers to, used as a comment: [//]: # (text)
    r"""|^ {0,3}\[[^\]\n]*\]:[ \t]*(?:\#|<>)[ \t]*(?:"[^"]*"|'[^']*'|\([^)]*\))?[ \t]*$""",
    re.DOTALL | re.MULTILINE,
)
COMMENT_WAS_HERE = "[hidden comment removed]"
VISIBLE_CONTROLS = "\n\t"
INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Blank by design though Unicode calls them letters, marks or symbols."""
VARIATION_SELECTORS = frozenset([*range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)])
"""Carry hidden bytes after any character; the two that choose an emoji's look are left alone."""


@dataclass(frozen=True, slots=True)
class VisibleText:
    """A text as its reader sees it, and how much was taken out."""

    text: str
    comments: int
    characters: int

    @property
    def note(self) -> str:
        """One sentence about what was removed, or nothing."""
        parts = []
        if self.comments:
            parts.append(f"{self.comments} hidden comment{'s' * (self.comments > 1)}")
        if self.characters:
            parts.append(f"{self.characters} invisible character{'s' * (self.characters > 1)}")
        return f"Patchwright removed {' and '.join(parts)} from this text." if parts else ""


def visible_text(text: str) -> VisibleText:
    """Characters first: one inside of `<!--` must not save a comment."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    shown = "".join(character for character in lines if not _invisible(character))
    cleaned, comments = COMMENTS.subn(COMMENT_WAS_HERE, shown)
    return VisibleText(cleaned, comments, len(lines) - len(shown))


def one_line(text: str, limit: int) -> str:
    """The visible part of a text on one line of at most `limit` characters."""
    line = " ".join("".join(" " if _invisible(c) else c for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _invisible(character: str) -> bool:
    if character in VISIBLE_CONTROLS:
        return False
    if character in INVISIBLE_LETTERS or ord(character) in VARIATION_SELECTORS:
        return True
    # Cc: controls. Cf: zero-width, bidirectional and tag characters. Cs, Co: not for exchange.
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co"}
