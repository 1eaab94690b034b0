"""Is the App addressed in a text? Pure, and linear in the text: anybody may write one."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

_FENCE = re.compile(r"^[ \t]*(`{3,}(?=[^`\n]*\n)|~{3,})[^\n]*\n", re.MULTILINE)
_STOP = re.compile(r"[ \t,:*_]+stop(?![\w'\u2019-])", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?(-->|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Mention:
    """How the App is called in a text: `@name`, not inside a word or code, not quoted."""

    name: str

    def occurs_in(self, text: str) -> bool:
        """Whether a person addresses the App in `text`.

        Letters are ASCII's, as in GitHub's own rule: in a Chinese sentence no space
        stands before or after a mention. `@name/team` and npm's `@name/package` are others.
        """
        return self._first(_prose(text)) is not None

    def says_stop(self, text: str) -> bool:
        """Whether the word behind the first mention, in its line, is `stop`.

        Later mentions do not count: a request can say how it may be stopped.
        """
        prose = _prose(text)
        first = self._first(prose)
        return first is not None and _STOP.match(prose, first.end()) is not None

    def _first(self, prose: str) -> re.Match[str] | None:
        pattern = rf"(?<![\w/@.-])@{re.escape(self.name)}(?:\[bot\])?(?![\w/-])"
        return re.search(pattern, prose, re.IGNORECASE | re.ASCII)


def _prose(text: str) -> str:
    """The text without code, hidden comments and quotations."""
    text = _COMMENT.sub(" ", _without_fences(text.replace("\r\n", "\n")))
    lines = (line for line in text.split("\n") if not line.lstrip().startswith(">"))
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    return "\n\n".join(_without_code_spans(paragraph) for paragraph in paragraphs)


def _without_fences(text: str) -> str:
    """Without fenced blocks; one that is not closed goes to the end, as on GitHub."""
    kept = []
    while opening := _FENCE.search(text):
        kept.append(text[: opening.start()])
        mark, length = opening[1][0], len(opening[1])
        closing = re.compile(rf"^[ \t]*{mark}{{{length},}}[ \t]*$", re.MULTILINE)
        end = closing.search(text, opening.end())
        text = text[end.end() :] if end else ""
    return "\n".join([*kept, text])


def _without_code_spans(text: str) -> str:
    """In one paragraph, a span is closed by as many backticks as opened it; others are text.

    https://spec.commonmark.org/0.31.2/#code-spans
    """
    parts = re.split(r"(`+)", text)
    places: defaultdict[int, list[int]] = defaultdict(list)
    for place in range(len(parts) - 2, 0, -2):
        places[len(parts[place])].append(place)
    kept, here = [parts[0]], 1
    while here < len(parts):
        same = places[len(parts[here])]
        while same and same[-1] <= here:
            same.pop()
        if same:
            here = same[-1]
            kept.append(" ")
        kept.append(parts[here + 1])
        here += 2
    return "".join(kept)
