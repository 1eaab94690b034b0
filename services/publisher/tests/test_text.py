"""What an agent wrote reads the same and does nothing."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from patchwright_publisher.text import SUMMARY_LIMIT, cell, harmless, one_line, shortened

BREAK = "\u200b"
KEYWORDS = (
    *("close", "closes", "closed", "fix", "fixes", "fixed", "resolve", "resolves", "resolved"),
)
"""https://docs.github.com/issues/tracking-your-work-with-issues/linking-a-pull-request-to-an-issue"""
REFERENCES = ("#7", "ada/calc#7", "GH-7", "https://github.com/ada/calc/issues/7")

# What GitHub and the bots on it act upon, as their own sources and documentation have it.
ACTS = {
    "comment": r"<!--",
    "tag": r"</?[A-Za-z][A-Za-z0-9-]*[\s/>]|<[!?]",
    "character reference": r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z]\w*);",
    "image": r"!\[",
    "mention": r"(?:^|[^A-Za-z0-9])@[A-Za-z0-9]",
    "command": rf"(?m)^[^\w\n{BREAK}]*(?:\d+[.)][^\w\n{BREAK}]*)?/[A-Za-z]",
    "reference": r"#\d|\bGH-\d",
    "closing keyword": r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b:?\s+"
    r"(?:#\d|GH-\d|[\w.-]+/[\w.-]+#\d|https?://)",
    "script": r"(?i)\b(?:javascript|vbscript|data)\s*:",
    "marker": r"patchwright:",
    "invisible": "[\u0000-\u0008\u000b-\u001f\u00ad\u200c-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\u3164\U000e0000-\U000e007f\U000e0100-\U000e01ef\u2028\u2029\u0085]",
}


def acts(text: str) -> list[str]:
    return [name for name, pattern in ACTS.items() if re.search(pattern, text)]


def seen(text: str) -> str:
    return text.replace(BREAK, "")


PIECES = st.sampled_from(
    [
        *("<!--", "-->", "<!-", "-", ">", "<", "!", "[", "](", ")", "```", "~~~", "`", "\n", "\r"),
        *(" ", "    ", "> ", "- ", "1. ", "/", "/close", "@", "@ada", "@org/team", "#", "7", "&"),
        *("#64;", "&commat;", "fixes", "Closes:", "resolved", "GH-7", "ada/calc#7", "https://x.y"),
        *(
            "<img src=x>",
            "<details>",
            "</details>",
            "javascript:",
            "data:image/png",
            "patchwright:",
        ),
        *("\u200b", "\u202e", "\u2028", "\x00", "\U000e0041", "a", "word ", "|", "\\", "*", "_"),
    ]
)
HOSTILE = st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=200)


@given(HOSTILE)
@settings(max_examples=600)
@example("<!-<!-- x -->- evil -->")
@example("<!--<!-- -->-->")
@example("<!-- x -->```\n<!-- y -->\n```\n<!-- z -->")
@example("a\r/close")
@example("/close@GH-7")
@example("@\u200bada @\u00adada")
def test_nothing_acts_and_a_second_time_changes_nothing(text: str) -> None:
    once = harmless(text)
    assert acts(once) == []
    assert harmless(once) == once
    assert acts(one_line(text, limit=80)) == []


@given(HOSTILE, st.integers(0, 60))
@settings(max_examples=400)
def test_any_limit_is_kept_and_nothing_acts_there(text: str, limit: int) -> None:
    cut = harmless(text, limit=limit)
    assert len(cut) <= limit
    assert acts(cut) == []
    assert harmless(cut, limit=limit) == cut
    assert len(one_line(text, limit=limit + 1)) <= limit + 1
    assert len(cell(text, limit=limit + 2)) <= limit + 2


@given(HOSTILE)
@settings(max_examples=300)
def test_a_cell_stays_in_its_row_and_its_code_span(text: str) -> None:
    shown = cell(text, limit=200)
    assert shown
    assert not re.search(r"[\n`]|(?<!\\)\|", shown)


@pytest.mark.parametrize(
    "text",
    [
        "Plain prose, with *emphasis*, **weight** and a list:\n\n- one\n- two\n  1. three",
        "A [link](https://example.org/a?b=c) and <https://example.org> and https://example.org.",
        "Mail ada@example.org, install pkg@1.2, a < b && c > d, 3 < 4, x <- y, `List`",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "Price: 5 €, ünïcode, 漢字, 👩 ✔️, عربى",
        "and/or, src/app.py, close the file, fixed in 2 places",
        "```python\nif a < b:\n    x[0] = 'a'\n```",
    ],
)
def test_ordinary_text_is_published_as_it_is(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("before <!-- hidden --> after", "before   after"),
        ("<!-- one\ntwo -->\ntext", "text"),
        ("a <!-- x --> b <!-- y --> c", "a   b   c"),
        ("<!-<!-- x -->- evil -->", f"<{BREAK}!- - evil -->"),
        ("<!--<!-- -->-->", "-->"),
        ("text <!-- never closed", f"text <{BREAK}!-- never closed"),
        ("<!--\u200b-- split -->", ""),
        ("<\u200b!-- split -->", ""),
    ],
)
def test_comments_are_gone_or_in_sight(text: str, left: str) -> None:
    assert harmless(text) == left


def test_comments_in_code_stay_readable() -> None:
    text = "The parser takes `<!-- x -->` now:\n\n```html\n<!-- kept -->\n<p>@ada</p>\n```\n\nEnd."
    assert seen(harmless(text)) == text
    assert acts(harmless(text)) == []
    assert seen(harmless(f"<!-- gone -->\n{text}")) == text


def test_unterminated_comment_does_not_swallow_the_rest() -> None:
    assert "the end" in harmless("It now knows `<!--` as a start.\n\nAnd this is the end.")


@pytest.mark.parametrize(
    "line", ["/close", "> /close", "- /close", "  1. /lgtm", "2) /hold", "> - [ ] /merge", "* > /x"]
)
@pytest.mark.parametrize("before", ["", "text\n", "text\r", "text\r\n", "text\u2028", "```\n"])
def test_slash_commands_are_broken_wherever_a_line_begins(before: str, line: str) -> None:
    shown = harmless(before + line)
    assert acts(shown) == []
    assert f"{BREAK}/" in shown


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("between", [" ", ": ", ":\n", "\n", " **", "** ", "_ ", " [", " <", "\t("])
@pytest.mark.parametrize("keyword", ["fixes", "Closed", "RESOLVE"])
def test_closing_keywords_are_broken_before_every_kind_of_reference(
    keyword: str, between: str, reference: str
) -> None:
    shown = harmless(f"This {keyword}{between}{reference} and more")
    assert f"{keyword}{BREAK}" in shown
    assert acts(shown) == []


def test_all_of_githubs_keywords_are_known() -> None:
    for keyword in KEYWORDS:
        assert harmless(f"{keyword} #7") == f"{keyword}{BREAK} #{BREAK}7"


@pytest.mark.parametrize(
    "text",
    ["@ada", "(@ada)", "@org/team", "**@ada**", "a @ada-b", "\\@ada", "&#64;ada", "&commat;a"],
)
def test_mentions_are_broken(text: str) -> None:
    shown = harmless(f"Ask {text}.")
    assert acts(shown) == []
    assert seen(shown) == f"Ask {text}."


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/p.png)",
        "![x][1]\n\n[1]: https://evil.example/p.png",
        "![1]\n\n[1]: https://evil.example/p.png",
        "[![x](https://evil.example/p.png)](https://example.org)",
        "![](data:image/png;base64,AAAA)",
        '<img src="https://evil.example/p.png">',
        "<IMG\nsrc=x>",
        "<picture><source srcset=x></picture>",
        "<svg/onload=x>",
        "<video src=x>",
    ],
)
def test_images_are_not_fetched(text: str) -> None:
    shown = harmless(text)
    assert not re.search(r"!\[|<[a-zA-Z]", shown)
    assert seen(shown) == text


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "</details>",
        "<details open>",
        "<a href='javascript:x'>",
        "<!DOCTYPE html>",
        "<![CDATA[x]]>",
        "<?php ?>",
        "<x-y>",
        "<style>*{display:none}</style>",
    ],
)
def test_html_is_shown_and_not_obeyed(text: str) -> None:
    assert acts(harmless(text)) == []
    assert seen(harmless(text)) == text


@pytest.mark.parametrize("scheme", ["javascript", "JavaScript", "vbscript", "data"])
def test_links_that_run_are_broken(scheme: str) -> None:
    assert harmless(f"[x]({scheme}:alert)") == f"[x]({scheme}{BREAK}:alert)"


def test_our_markers_cannot_be_forged() -> None:
    marker = "<!-- patchwright:1-2-issue-1:0123456789abcdef -->"
    for text in (marker, f"`{marker}`", f"```\n{marker}\n```", marker.replace("-->", "")):
        assert "patchwright:" not in harmless(text)


@pytest.mark.parametrize(
    "character",
    [
        *("\u200b", "\u200d", "\u202e", "\u2066", "\u00ad", "\ufeff", "\u3164", "\u115f", "\u2800"),
        *("\U000e0041", "\U000e0100", "\ufe00", "\x00", "\x1b", "\x7f", "\x9b", "\ue000"),
    ],
)
def test_invisible_characters_are_gone(character: str) -> None:
    assert harmless(f"a{character}b") == "ab"


@pytest.mark.parametrize("fence", ["```", "````", "~~~", "~~~~~", "  ```"])
def test_open_code_fence_is_closed_so_that_ours_is_not_code(fence: str) -> None:
    shown = harmless(f"text\n\n{fence}python\nx = 1")
    assert shown.endswith(f"\nx = 1\n{fence.strip()}")


def test_closed_code_fences_are_left_alone() -> None:
    text = "```\na\n```\n\n~~~\n```\n~~~\n\n````md\n```\n````"
    assert harmless(text) == text


def test_cut_text_says_so_once_and_closes_its_fence() -> None:
    cut = harmless("````\n" + "@x\n" * 30_000)
    assert SUMMARY_LIMIT - 200 < len(cut) <= SUMMARY_LIMIT
    assert cut.endswith("\n````\n\n*(shortened)*")
    assert cut.count("shortened") == 1
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "abc"


def test_title_is_one_short_line_without_escapes() -> None:
    assert one_line("a | b\r\n\tc `d`", limit=40) == "a | b c `d`"
    assert one_line("x" * 50, limit=10) == "x" * 9 + "…"
    assert cell("a|b`c\nd", limit=40) == "a\\|b'c d"
    assert cell("\u200b", limit=40) == "?"


@pytest.mark.parametrize(
    "text",
    [
        "<!--" * 20_000,
        "```<!-- -->" * 9_000,
        "<!-- x -->```\n" * 6_000,
        "".join("`" * (n % 60) + "x" for n in range(5_000)),
        "fixes " + "a/" * 40_000,
        ("fixes " + "a" * 100) * 500,
        "* " * 40_000 + "/",
        "@" * 80_000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_takes_no_time(text: str) -> None:
    began = time.process_time()
    harmless(text)
    assert time.process_time() - began < 2
