"""A mention is what a person writes to the App, and nothing that only looks like it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_ingest.mention import Mention

PATCHWRIGHT = Mention("patchwright")

ADDRESSED = [
    "@patchwright",
    "@patchwright please fix this",
    "Could you, @patchwright?",
    "@Patchwright / @PATCHWRIGHT",
    "@patchwright[bot] fix",
    "(@patchwright)",
    "cc:@patchwright, @ada",
    "**@patchwright**",
    "thanks\n\n@patchwright",
    "> quoted\n\n@patchwright please",
    "> @patchwright said so\n@patchwright what now?",
    "`code` @patchwright `code`",
    "```\ncode\n```\n@patchwright",
    "~~~\n```\n~~~\n@patchwright",
    "```inline``` @patchwright",
    "it`s broken\n\n@patchwright fix, it`s urgent",
    "a lone ` @patchwright",
    "a lone ` @patchwright and ``",
    "<!-- hidden --> @patchwright",
    "请@patchwright修复",
    "é@patchwright",
    "\r\n@patchwright\r\n",
    "- @patchwright",
]
NOT_ADDRESSED = [
    "",
    "patchwright",
    "@ patchwright",
    "ada@patchwright",
    "ada@patchwright.example",
    "ada.l@patchwright",
    "x-@patchwright",
    "@patchwrights",
    "@patchwright-bot",
    "@patchwright_dev",
    "@patchwright2",
    "@patchwright/reviewers",
    "npm install @patchwright/core",
    "https://example.com/@patchwright",
    "@@patchwright",
    "`@patchwright`",
    "``@patchwright``",
    "`` ` @patchwright ``",
    "`spans\nlines @patchwright`",
    "```\n@patchwright\n```",
    "```python\n@patchwright\ndef f(): ...\n```",
    "````\n```\n@patchwright\n```\n````",
    "~~~\n@patchwright\n~~~",
    "```\nnever closed\n@patchwright",
    "- list\n  ```\n  @patchwright\n  ```",
    "\r\n```\r\n@patchwright\r\n```\r\n",
    "> @patchwright please",
    "  > @patchwright please",
    ">> @patchwright",
    "<!-- @patchwright -->",
    "<!--\n@patchwright\n-->",
    "<!-- @patchwright",
    "On Monday ada wrote:\n> @patchwright fix\n\nNo thanks.",
]


@pytest.mark.parametrize("text", ADDRESSED)
def test_app_is_addressed(text: str) -> None:
    assert PATCHWRIGHT.occurs_in(text)


@pytest.mark.parametrize("text", NOT_ADDRESSED)
def test_app_is_not_addressed(text: str) -> None:
    assert not PATCHWRIGHT.occurs_in(text)


def test_name_is_no_pattern() -> None:
    assert not Mention("a.b").occurs_in("@axb")
    assert Mention("a.b").occurs_in("@a.b")


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    PATCHWRIGHT.occurs_in(text)


@given(st.text(st.sampled_from("ab c\n")), st.text(st.sampled_from("ab c\n")))
def test_mention_among_plain_words_is_always_seen(before: str, after: str) -> None:
    assert PATCHWRIGHT.occurs_in(f"{before}\n@patchwright {after}")


@given(st.text(st.sampled_from("ab @\n")), st.integers(3, 6), st.sampled_from("`~"))
def test_mention_inside_a_fence_is_never_seen(code: str, length: int, mark: str) -> None:
    fence = mark * length
    assert not PATCHWRIGHT.occurs_in(f"{fence}\n{code}\n@patchwright\n{code}\n{fence}\n")


@pytest.mark.parametrize(
    "hostile",
    [
        "`" * 65_536,
        "` " * 32_768,
        "".join("`" * n + " " for n in range(360)),
        "<!--" * 16_384,
        "```\n" * 16_384,
        "~~~a\n" * 13_107,
        "> " * 32_768,
        "\n" * 65_536,
        " \n" * 32_768,
        "@" * 65_536,
        "@patchwright/" * 5_000,
        " " * 65_536,
        " " * 65_000 + "```",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_comment_costs_no_more_than_its_length(hostile: str) -> None:
    started = time.perf_counter()
    PATCHWRIGHT.occurs_in(hostile[:65_536])
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "@patchwright stop",
        "@patchwright STOP",
        "@Patchwright[bot] Stop",
        "@patchwright, stop please: it is the wrong file",
        "@patchwright: stop!",
        "@patchwright **stop**",
        "@patchwright   stop.",
        "@patchwright stop it",
        "That is wrong.\n\n@patchwright stop\n\nI will do it myself.",
        "> @patchwright fix this\n\n@patchwright stop",
        "Oh no, @patchwright stop",
    ],
)
def test_stop_is_the_word_behind_the_mention(text: str) -> None:
    assert PATCHWRIGHT.says_stop(text)


@pytest.mark.parametrize(
    "text",
    [
        "stop",
        "stop @patchwright",
        "@patchwright please stop",
        "@patchwright do not stop",
        "@patchwright fix it; to end it, write @patchwright stop",
        "@patchwright stopped too early, go on",
        "@patchwright stop-gap fix, please",
        "@patchwright stopwatch shows seconds",
        "@patchwright\n\nstop",
        "@patchwrightstop",
        "@patchwright-stop",
        "`@patchwright stop`",
        "> @patchwright stop",
        "<!-- @patchwright stop -->",
        "```\n@patchwright stop\n```",
        "@ada stop",
        "@patchwright",
        "",
    ],
)
def test_other_texts_do_not_say_stop(text: str) -> None:
    assert not PATCHWRIGHT.says_stop(text)


@given(st.text())
def test_whatever_says_stop_mentions_the_app(text: str) -> None:
    for said in (text, f"@patchwright {text}"):
        assert not PATCHWRIGHT.says_stop(said) or PATCHWRIGHT.occurs_in(said)
