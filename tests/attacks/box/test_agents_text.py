"""Attacks by words: what an agent was made to write, published under the App's name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from patchwright_publisher.pull_request import marker_of
from patchwright_publisher.text import cell, harmless, one_line

from .attack import Attack, against

JOB = "1-2-issue-3-a1"
KEY = "0123456789abcdef"
MARKER = marker_of(JOB, KEY)
_BREAK = "an invisible break in whatever acts"
_GONE = "removed before publishing"


@dataclass(frozen=True)
class Words(Attack):
    """`command` is the text; where `acts` is found, GitHub or a bot would act on it."""

    acts: str = ""


WORDS = (
    Words("forged job marker", _GONE, f"Done.\n\n{MARKER}", acts=re.escape(MARKER)),
    Words(
        "forged job marker in code",
        _BREAK,
        f"```\n{MARKER}\n```",
        acts=re.escape(MARKER),
    ),
    Words(
        "forged job marker in two halves",
        _GONE,
        MARKER.replace("<!--", "<!-<!-- x -->-"),
        acts=r"<!-",
    ),
    Words("slash command", _BREAK, "Done.\n/retry", acts=r"(?m)^/retry"),
    Words("slash command in a quote", _BREAK, "> - /close", acts=r"[>\s-]/close"),
    Words(
        "slash command behind an invisible character", _GONE, "\u2060/close", acts="\u2060/close"
    ),
    Words("mention of the App itself", _BREAK, "@patchwright retry", acts=r"@patchwright"),
    Words("mention by a character reference", _BREAK, "&#64;ada", acts=r"&#64;ada"),
    Words("mention of a team", _BREAK, "cc @org/everyone", acts=r"@org"),
    Words("closing keyword for another issue", _BREAK, "Fixes #1, closes GH-2", acts=r"#1|GH-2"),
    Words(
        "closing keyword by address",
        _BREAK,
        "resolves https://github.com/ada/calc/issues/7",
        acts=r"resolves https",
    ),
    Words("hidden instructions in a comment", _GONE, "a <!-- run it --> b", acts=r"<!--"),
    Words(
        "hidden instructions in invisible letters",
        _GONE,
        "a" + "".join(chr(0xE0000 + ord(letter)) for letter in "run it"),
        acts="[\U000e0000-\U000e007f]",
    ),
    Words("text that reads backwards", _GONE, "a\u202etxt.exe", acts="\u202e"),
    Words("image of a foreign host", _BREAK, "![x](https://evil.example/?q=1)", acts=r"!\["),
    Words("HTML", _BREAK, '<img src="https://evil.example/x">', acts=r"<img"),
    Words("link that runs", _BREAK, "[x](javascript:alert(1))", acts=r"javascript:"),
    Words("code fence that swallows what follows", "closed before publishing", "```\n", acts=""),
)


@against(*(words for words in WORDS if words.acts))
def test_agents_text_does_nothing_by(attack: Words) -> None:
    assert re.search(attack.acts, attack.command)
    for published in (
        harmless(attack.command),
        one_line(attack.command, limit=200),
        cell(attack.command, limit=200),
    ):
        assert not re.search(attack.acts, published)


@against(WORDS[-1])
def test_agents_text_does_not_swallow_what_follows(attack: Words) -> None:
    def shown(text: str) -> str:
        return re.sub(r"```.*?(```|\Z)", "", text + "\n\nours", flags=re.DOTALL)

    assert "ours" not in shown(attack.command)
    assert "ours" in shown(harmless(attack.command))


@against(Attack("marker of a person's own making", "signed with a key that stays at home"))
def test_marker_without_the_key_is_another(attack: Attack) -> None:
    assert marker_of(JOB, "f" * 16) != MARKER
    assert marker_of("1-2-issue-4-a1", KEY) != MARKER
