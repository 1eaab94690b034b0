"""Turns, tool calls and the transcript from what Claude Code prints."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from patchwright_runner.agent.digest import digest
from patchwright_runner.agent.narration import (
    CALLS,
    FULL,
    TRANSCRIPT_CHARACTERS,
    Called,
    Narration,
    TurnOver,
    last_words,
    summary,
)

from . import claude_code_lines as lines


def heard(text: str) -> tuple[Narration, list[Any]]:
    ticks = count()
    narration = Narration(clock=lambda: float(next(ticks)))
    happened: list[Any] = []
    for message in text.splitlines():
        happened += narration.hear(json.loads(message))
    return narration, happened + list(narration.finish())


def test_turn_is_over_when_the_next_reply_begins() -> None:
    _, happened = heard(lines.two_turns())

    assert [type(h) for h in happened] == [Called, Called, TurnOver, TurnOver]
    first, second = happened[2:]
    assert [(c.name, c.summary, c.failed) for c in first.calls] == [
        ("Bash", "ls -la", False),
        ("Edit", "edit greeting.py", True),
    ]
    assert second.calls == ()


def test_call_takes_the_time_from_its_request_to_its_result() -> None:
    _, happened = heard(lines.two_turns())

    assert [h.call.seconds for h in happened if isinstance(h, Called)] == [1.0, 1.0]


def test_transcript_has_the_shape_of_the_messages_api() -> None:
    narration, _ = heard(lines.two_turns())

    assert [m["role"] for m in narration.transcript] == [
        *("assistant", "user"),
        *("assistant", "user"),
        "assistant",
    ]
    assert narration.transcript[0]["content"] == [
        {"type": "text", "text": "I look."},
        {
            "type": "tool_use",
            "id": "toolu_1",
            "name": "Bash",
            "input": {"command": "ls -la", "description": "Look"},
        },
    ]
    assert narration.transcript[3]["content"][0]["is_error"] is True


def test_images_in_results_are_named_and_not_kept() -> None:
    blocks = [{"type": "text", "text": "a picture"}, {"type": "image", "source": {"data": "AAAA"}}]
    text = lines.use("msg_1", "toolu_1", "Read", file_path="/tmp/a.png")
    narration, _ = heard(text + lines.result("toolu_1", blocks))

    assert narration.transcript[-1]["content"][0]["content"] == "a picture\n[image]"


def test_subagents_words_are_no_turns() -> None:
    inner = {"id": "msg_9", "model": "m", "content": [{"type": "text", "text": "psst"}]}
    text = lines.said("msg_1", "I ask.") + lines.line(
        type="assistant", message=inner, parent_tool_use_id="toolu_1"
    )
    narration, happened = heard(text)

    assert len(happened) == 1
    assert "psst" not in json.dumps(narration.transcript)


def test_error_that_the_program_made_up_is_no_turn() -> None:
    message = {
        "id": "x",
        "model": "<synthetic>",
        "content": [{"type": "text", "text": "API Error"}],
    }
    narration, happened = heard(lines.line(type="assistant", message=message))

    assert happened == []
    assert narration.transcript == []


def test_call_without_a_result_has_failed() -> None:
    _, happened = heard(lines.use("msg_1", "toolu_1", "Bash", command="sleep 99"))

    assert [(c.summary, c.failed) for c in happened[0].calls] == [("sleep 99", True)]


def test_session_and_ending_are_told() -> None:
    narration, _ = heard(lines.two_turns())

    assert narration.session == lines.SESSION
    assert narration.ending is not None
    assert (narration.ending.failed, narration.ending.text) == (False, "It is done.")


def test_tool_that_was_denied_and_worked_elsewhere_is_allowed() -> None:
    denials = [{"tool_name": "Bash"}, {"tool_name": "Write"}, {"tool_name": "Write"}]
    narration, _ = heard(lines.two_turns() + lines.ending(permission_denials=denials))

    assert narration.never_allowed == ("Write",)


def test_reply_in_two_halves_is_one_text() -> None:
    cut = "Output token limit hit. Resume directly."
    text = lines.said("m1", "One half ") + lines.told(cut) + lines.said("m2", "and the other.")

    assert last_words(heard(text)[0].transcript) == "One half and the other."


def test_text_before_the_last_tool_call_is_not_among_the_last_words() -> None:
    assert last_words(heard(lines.two_turns())[0].transcript) == "It is done."


def test_endless_transcript_ends_with_a_note() -> None:
    narration = Narration()
    for number in range(TRANSCRIPT_CHARACTERS // 1_000_000 + 5):
        text = lines.said(f"msg_{number}", "x" * 1_000_000)
        assert list(narration.hear(json.loads(text))) or number == 0

    assert len(json.dumps(narration.transcript)) < TRANSCRIPT_CHARACTERS + 1000
    assert narration.transcript[-1]["content"][-1]["text"] == FULL
    assert json.dumps(narration.transcript).count(FULL) == 1


def test_calls_without_number_are_not_kept() -> None:
    text = "".join(lines.use("m1", f"t{n}", "Bash", command="true") for n in range(CALLS + 50))

    assert len(heard(text)[1][0].calls) == CALLS


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "id", "content", "text", "input", "tool_use_id", "name", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(
    st.sampled_from(["system", "assistant", "user", "result", "news"]),
    st.dictionaries(
        st.sampled_from(
            ["message", "subtype", "result", "errors", "permission_denials", "session_id"]
        ),
        ANYTHING | st.fixed_dictionaries({"content": st.lists(ANYTHING, max_size=3)}),
    ),
)
def test_messages_of_any_shape_are_survived(kind: str, fields: dict[str, Any]) -> None:
    narration = Narration()
    list(narration.hear({"type": kind, **fields}))
    list(narration.hear(json.loads(lines.said("msg_1", "Still here."))))

    json.dumps(narration.transcript)
    assert last_words(narration.transcript).endswith("Still here.")


def test_summary_names_the_file_and_nothing_of_its_content() -> None:
    fields = {"file_path": "/workspace/a.py", "content": "secret"}
    assert summary("Write", fields) == "write a.py"
    assert summary("Grep", {"pattern": "x", "path": "/workspace/src"}) == "grep x src"
    assert summary("Bash", {"command": "a\nb"}) == "a b"
    assert summary("TodoWrite", {"todos": []}) == "todowrite"


def test_digest_holds_the_last_words_and_deeds_in_order() -> None:
    narration, _ = heard(lines.two_turns())

    assert digest(narration.transcript).splitlines() == [
        "- said: I look.",
        "- did: ls -la",
        "- did: edit greeting.py",
        "- said: It is done.",
    ]


def test_digest_of_a_long_conversation_is_short() -> None:
    text = "".join(lines.said(f"m{number}", "word " * 500) for number in range(100))
    short = digest(heard(text)[0].transcript)

    assert short.startswith("(60 earlier entries)\n- said: word word")
    assert len(short) < 20_000
