"""Makes agent-written text harmless before it is published under the App's name. Pure.

The agent's words can have been put into its mouth by an issue. GitHub and the bots on
it act on text: comments can hide instructions or forge our markers, a line that begins
with a slash is a command, `fixes #7` closes an issue, `@name` sends mail, an image is
fetched from a foreign host by everyone who looks.

What acts is broken by a character of no width, wherever it stands. So nobody has to know
what GitHub takes for code, and code still reads as it was written.
"""

from __future__ import annotations

import re
import unicodedata

COMMENT_LIMIT = 65_536
"""Characters that GitHub takes in one comment or description."""
SUMMARY_LIMIT = 40_000
"""Characters of agent-written text, so that ours always fits beside it."""
ROUNDS = 8
"""How often a removed comment may turn what is around it into code, before code does not count."""

_BREAK = "\u200b"
_NOTE = "\n\n*(shortened)*"
_LINE_END = re.compile("\r\n?|[\x85\u2028\u2029]")
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Invisible by design though Unicode calls them letters, marks or symbols."""
_SELECTORS = frozenset(map(chr, [*range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)]))
"""Carry hidden bytes after any character; the two that choose an emoji's look may stay."""
_FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})", re.MULTILINE)
_CODE_OR_COMMENT = re.compile(
    r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*$)|~{3,}).*?(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)"
    r"|(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)(?P=ticks)(?!`)"
    r"|(?P<comment><!--)",
    re.DOTALL | re.MULTILINE,
)
_CLOSES = r"(?<![A-Za-z0-9])(close[sd]?|fix(?:e[sd])?|resolve[sd]?)"
_REPOSITORY = r"[\w.-]{1,100}/[\w.-]{1,100}"
_ACTING = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        # A tag, a comment, a declaration; an autolink is none.
        (r"(<)(?=[a-z/!?])(?!https?://)", re.IGNORECASE),
        # A character reference: `&#64;` is a mention's @ once it is shown.
        (r"(&)(?=#?\w+;)", 0),
        # An image, whichever way its address follows.
        (r"(!)(?=\[)", 0),
        # A command: first on its line, or on what is left of it after quotes and lists.
        (r"^([^\w\n]*?(?:\d+[.)][^\w\n]*?)?)(?=/[a-z])", re.IGNORECASE | re.MULTILINE),
        # A closing keyword, whatever marks stand between it and the reference.
        (
            rf"{_CLOSES}(?=[\W_]{{1,24}}(?:{_REPOSITORY})?(?:\#|gh-\d|https?:|www\.|\[))",
            re.IGNORECASE,
        ),
        (rf"{_CLOSES}(?=[\W_]{{1,24}}{_REPOSITORY}\W{{0,8}}\#)", re.IGNORECASE),
        # Any reference: it would speak up in the other issue's thread.
        (r"(#)(?=\d)", 0),
        (r"\b(gh-)(?=\d)", re.IGNORECASE),
        (r"\b(javascript|vbscript|data)(?=\s*:)", re.IGNORECASE),
        (r"(patchwright)(?=:)", re.IGNORECASE),
        # A mention, unless a word runs into it. Last: a break ends a word.
        (r"(?<![A-Za-z0-9])(@)", 0),
    )
)
"""Each match is broken after its first group. From GitHub's own patterns, with room to spare."""


def harmless(text: str, *, limit: int = SUMMARY_LIMIT) -> str:
    """`text` as it may be published: it still reads the same, and nothing acts on it.

    At most `limit` characters; harmless already, it comes back unchanged.
    """
    plain = _plain(text)
    room, broken = limit, _broken(plain)
    while len(broken) > limit:
        broken = _broken(_plain(shortened(plain, room)))
        # What is broken is longer than what was cut; less next time, if there is one.
        room = room * limit // max(len(broken), limit + 1)
    return broken


def one_line(text: str, *, limit: int) -> str:
    """A harmless single line, for titles."""
    line = " ".join(harmless(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def cell(text: str, *, limit: int) -> str:
    """A harmless line inside a code span in a table's cell."""
    line = one_line(text.replace("`", "'"), limit=limit).replace("|", "\\|")
    if len(line) > limit:
        line = line[: limit - 1].rstrip("\\") + "…"
    return line or "?"


def shortened(text: str, limit: int) -> str:
    """Cut to `limit` characters, saying so, with an open code fence closed."""
    if len(text) <= limit:
        return text
    if limit <= len(_NOTE):
        return text[:limit]
    cut = text[: limit - len(_NOTE)]
    while len(cut) + len(end := _closing(cut)) + len(_NOTE) > limit:
        cut = cut[: max(0, limit - len(_NOTE) - len(end))]
    return cut + end + _NOTE


def _plain(text: str) -> str:
    """Without what nobody sees, and with every code fence closed."""
    text = "".join(c for c in _LINE_END.sub("\n", text) if not _invisible(c)).strip()
    for _ in range(ROUNDS):
        before, text = text, _without_comments(text)
        if text == before:
            break
    else:
        text = re.sub("<!--.*?-->", " ", text, flags=re.DOTALL).strip()
    return text + _closing(text)


def _without_comments(text: str) -> str:
    """A comment that never ends stays: it is broken like a tag, and then everybody sees it."""
    kept, place = [], 0
    while found := _CODE_OR_COMMENT.search(text, place):
        if found["comment"] is None:
            kept.append(text[place : found.end()])
            place = found.end()
            continue
        end = text.find("-->", found.end())
        if end < 0:
            break
        kept += [text[place : found.start()], " "]
        place = end + len("-->")
    return "".join([*kept, text[place:]]).strip()


def _closing(text: str) -> str:
    """What ends a code fence that `text` leaves open: ours is written below it."""
    place, fence = 0, ""
    while opened := _FENCE.search(text, place):
        fence = opened["fence"]
        closed = re.compile(rf"^ {{0,3}}{fence}[`~]*[ \t]*$", re.MULTILINE).search(
            text, opened.end()
        )
        if closed is None:
            return f"\n{fence}"
        place = closed.end()
    return ""


def _broken(text: str) -> str:
    for pattern in _ACTING:
        text = pattern.sub(rf"\1{_BREAK}", text)
    return text


def _invisible(character: str) -> bool:
    if character in "\n\t":
        return False
    if character in _BLANK or character in _SELECTORS:
        return True
    # Cc: controls. Cf: zero-width, bidirectional and tag characters. Cs, Co: not for exchange.
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co"}
