"""Making a conversation shorter, without a model."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from patchwright_runner.agent.context import (
    NO_IMAGE,
    NO_SUMMARY,
    SUMMARY_HEAD,
    asking_for_summary,
    begun_anew,
    estimate,
    fitted,
    without_all,
    without_outputs,
)
from patchwright_runner.agent.window import Window, window_of

WINDOW = Window(tokens=20_000, reply=1_000)
OPENING = {"role": "user", "content": [{"type": "text", "text": "The task."}]}
LONG = "x" * 6_000


def call(number: int) -> dict[str, Any]:
    use = {"type": "tool_use", "id": f"t{number}", "name": "bash", "input": {"command": "ls"}}
    return {"role": "assistant", "content": [{"type": "text", "text": f"Turn {number}."}, use]}


def answer(number: int, output: str = LONG) -> dict[str, Any]:
    result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": output}
    return {"role": "user", "content": [result]}


def conversation(turns: int, output: str = LONG) -> list[Any]:
    pairs = [(call(n), answer(n, output)) for n in range(1, turns + 1)]
    return [OPENING, *(message for pair in pairs for message in pair)]


def outputs(messages: Any) -> list[str]:
    blocks = [block for message in messages for block in message["content"]]
    return [block["content"] for block in blocks if block["type"] == "tool_result"]


NOTE = "[output of this earlier call left out: 6000 characters]"


def test_conversation_with_room_stays_as_it_is() -> None:
    messages = conversation(8)

    assert fitted(messages, WINDOW.trim_above, WINDOW).messages is messages


def test_oldest_outputs_are_left_out_in_one_large_step() -> None:
    messages = conversation(9)
    before = copy.deepcopy(messages)

    fit = fitted(messages, WINDOW.trim_above + 1, WINDOW)

    left_out = [output == NOTE for output in outputs(fit.messages)]
    assert left_out == [True] * 5 + [False] * 4
    assert fit.tokens < WINDOW.trim_to + 1_500
    assert not fit.too_long
    assert messages == before


def test_last_turns_keep_their_outputs_however_long_they_are() -> None:
    messages = conversation(3)

    fit = fitted(messages, WINDOW.room, WINDOW)

    assert fit.messages == messages
    assert fit.too_long


def test_little_to_win_is_not_worth_losing_the_cached_prompt_for() -> None:
    messages = conversation(5)

    fit = fitted(messages, WINDOW.compact_above, WINDOW)

    assert fit.messages == messages
    assert not fit.too_long


def test_short_outputs_and_notes_are_left_alone() -> None:
    once, _ = without_outputs(conversation(5, "short"), 100_000)
    noted, _ = without_outputs(conversation(5), 100_000)
    twice, freed = without_outputs(noted, 100_000)

    assert outputs(once) == ["short"] * 5
    assert outputs(noted) == [NOTE] * 2 + [LONG] * 3
    assert (twice, freed) == (noted, 0)


@pytest.mark.parametrize("turns", [1, 2, 3, 9])
def test_every_call_keeps_its_result(turns: int) -> None:
    messages = conversation(turns)
    shortened = [
        without_outputs(messages, 10**6)[0],
        without_all(messages),
        begun_anew(messages, "All well.", WINDOW),
    ]

    for shorter in shortened:
        pairs = zip(shorter[1::2], shorter[2::2], strict=True)
        assert all(
            asked["content"][-1]["id"] == told["content"][0]["tool_use_id"]  # type: ignore[index,typeddict-item]
            for asked, told in pairs
        )


def test_new_beginning_holds_the_task_the_summary_and_the_last_turns() -> None:
    messages = conversation(9, "y" * 3_000)

    anew = begun_anew(messages, "  I fixed it.\n", WINDOW)

    task, summary = anew[0]["content"]
    assert task == OPENING["content"][0]  # type: ignore[comparison-overlap]
    assert summary["text"] == f"{SUMMARY_HEAD}\n\nI fixed it."  # type: ignore[index,typeddict-item]
    assert anew[1:] == messages[-6:]


def test_turns_that_are_too_long_do_not_begin_with_the_new_conversation() -> None:
    assert len(begun_anew(conversation(9, "y" * 12_000), "", WINDOW)) == 3
    anew = begun_anew(conversation(9, "y" * 90_000), "", WINDOW)

    assert outputs(anew) == ["[output of this earlier call left out: 90000 characters]"]
    assert NO_SUMMARY in json.dumps(anew)


def test_second_summary_takes_the_place_of_the_first() -> None:
    once = begun_anew(conversation(9), "One.", WINDOW)
    twice = begun_anew([*once, call(10), answer(10)], "Two.", WINDOW)

    text = json.dumps(twice[0])
    assert "Two." in text
    assert "One." not in text
    assert text.count("The task.") == 1


def test_feedback_after_the_last_words_survives_a_new_beginning() -> None:
    ended = [{"role": "assistant", "content": [{"type": "text", "text": "Done."}]}]
    heard = [{"role": "user", "content": [{"type": "text", "text": "The tests fail."}]}]
    messages: list[Any] = [*conversation(9), *ended, *heard]

    assert begun_anew(messages, "Well.", WINDOW)[-2:] == [*ended, *heard]


def test_question_for_a_summary_stands_behind_the_results() -> None:
    asked = asking_for_summary(conversation(2))

    assert [block["type"] for block in asked[-1]["content"]] == ["tool_result", "text"]  # type: ignore[index,misc,union-attr]
    assert len(asked) == 5


def test_image_counts_as_an_image_and_can_be_left_out() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 1_000_000}}
    messages: list[Any] = [{"role": "user", "content": [image]}]

    assert estimate(messages) < 10_000
    assert without_all(messages)[0]["content"] == [{"type": "text", "text": NO_IMAGE}]


def test_estimate_is_rather_too_many() -> None:
    assert estimate(conversation(3)) > 3 * len(LONG) / 3.5


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-opus-5-5", 1_000_000),
        ("claude-haiku-4-5-20251001", 200_000),
        ("somebody-elses", 200_000),
    ],
)
def test_each_model_has_its_window(model: str, tokens: int) -> None:
    assert window_of(model) == tokens
