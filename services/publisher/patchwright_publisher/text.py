"""Makes agent-written text harmless before it is published under the App's name. Pure.

The agent's words can have been put into its mouth by an issue. GitHub and the bots on
it act on text: comments can hide instructions or forge our markers, a line that begins
with a slash is a command, `fixes #7` closes an issue, `@name` sends mail, an image is
fetched from a foreign host by everyone who looks.
"""

from __future__ import annotations

import re

COMMENT_LIMIT = 65_536
"""Characters that GitHub takes in one comment or description."""
SUMMARY_LIMIT = 40_000
"""Characters of agent-written text, so that ours always fits beside it."""

_ZERO_WIDTH = "\u200b"
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TAG = re.compile(
    r"<(?=/?(?:img|picture|source|video|audio|iframe|script|style|svg|object|embed|link|meta|form"
    r"|input|base|html|body|!)\b|!|\?)",
    re.IGNORECASE,
)
_SLASH_COMMAND = re.compile(r"^([ \t>*+-]*)/(?=[a-zA-Z])", re.MULTILINE)
_MENTION = re.compile(r"@(?=[A-Za-z0-9])")
_CLOSING = re.compile(
    r"\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)(\s*:?\s+)"
    r"(?=(?:[\w.-]+/[\w.-]+)?#\d|https?://|GH-\d|\[)",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"#(?=\d)")
_IMAGE = re.compile(r"!\[")


def harmless(text: str, *, limit: int = SUMMARY_LIMIT) -> str:
    """`text` as it may be published: it still reads the same, and nothing acts on it."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n"))
    text = _INVISIBLE.sub("", text)
    text = _COMMENT.sub("", text)
    text = _TAG.sub("&lt;", text)
    text = _IMAGE.sub(r"!\\[", text)
    text = _SLASH_COMMAND.sub(rf"\1{_ZERO_WIDTH}/", text)
    text = _MENTION.sub(f"@{_ZERO_WIDTH}", text)
    text = _CLOSING.sub(rf"\1{_ZERO_WIDTH}\2", text)
    text = _REFERENCE.sub(f"#{_ZERO_WIDTH}", text)
    return shortened(text.strip(), limit)


def one_line(text: str, *, limit: int) -> str:
    """A harmless single line, for titles and table cells."""
    line = " ".join(harmless(text).split()).replace("|", "\\|")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def shortened(text: str, limit: int) -> str:
    """Cut to `limit` characters, saying so, with an open code fence closed."""
    if len(text) <= limit:
        return text
    note = "\n\n*(shortened)*"
    cut = text[: limit - len(note) - 5]
    fence = "\n```" if cut.count("```") % 2 else ""
    return cut + fence + note
