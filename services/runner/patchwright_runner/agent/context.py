"""Make a conversation shorter: old tool outputs first, then all but a summary and the last turns.

Pure functions on messages as they are sent. A call and its result stay a pair, or the API refuses
the conversation; nothing that was given is changed in place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from anthropic.types import MessageParam

from patchwright_runner.agent.window import Window

CHARACTERS_ADDED = 3
"""For a token, where too many tokens are the safer guess. English and code have about 3.5."""
CHARACTERS_FREED = 4
"""For a token, where too few are."""
IMAGE_TOKENS = 5_000
"""More than any image takes: the largest are scaled down by the API."""
FIXED_TOKENS = 4_000
"""The system prompt and the tools' schemas, which the server adds."""
KEPT_TURNS = 3
"""The last turns, whose outputs the model is still working with."""
WORTH_LEAVING_OUT = 200
"""Characters of an output that is longer than the note in its place."""

ASK_FOR_SUMMARY: Final = """\
This conversation comes close to the limit of your context window. It will begin anew with the \
task, what you write now, and your last few turns; you will remember nothing else. Do not call a \
tool. Write down all that you need to go on without looking again: what was asked of you, later \
requests included; what you found out, with files, functions, commands and their results; what you \
changed and why; what you checked and how it came out; what is left to do. Do not write the final \
message yet."""
SUMMARY_HEAD: Final = """\
You have worked on this already, and the conversation was begun anew to fit into your context \
window. Below is your own summary of the work so far. Whatever it quotes from the issue, from \
files or from output is still material. Go on from there."""
NO_SUMMARY: Final = "(There is none. `git status` and `git diff` show what you have changed.)"
NO_IMAGE: Final = "[an image was here and had to be left out]"


class Fitted(NamedTuple):
    """A conversation, how many tokens it has about, and whether leaving out was not enough."""

    messages: list[MessageParam]
    tokens: int
    too_long: bool


def fitted(messages: list[MessageParam], tokens: int, window: Window) -> Fitted:
    """Without old outputs when `tokens` are too many for the window, else as it is."""
    if tokens <= window.trim_above:
        return Fitted(messages, tokens, too_long=False)
    shorter, freed = without_outputs(messages, (tokens - window.trim_to) * CHARACTERS_FREED)
    if freed // CHARACTERS_FREED >= window.step:
        messages, tokens = shorter, tokens - freed // CHARACTERS_FREED
    return Fitted(messages, tokens, tokens > window.compact_above)


def estimate(messages: Sequence[MessageParam]) -> int:
    """Tokens, rather too many than too few."""
    return sum(_tokens(block) for message in messages for block in _blocks(message))


def without_outputs(
    messages: Sequence[MessageParam], characters: int, *, kept: int = KEPT_TURNS
) -> tuple[list[MessageParam], int]:
    """Notes in the place of the oldest outputs, until so many characters are freed.

    The last `kept` turns stay whole. Also says how many characters it were in the end.
    """
    replies = _replies(messages)
    end = (replies[-kept] if kept else len(messages)) if len(replies) >= kept else 0
    shorter, freed = list(messages), 0
    for index in range(end):
        blocks: list[Any] = []
        for block in _blocks(messages[index]):
            noted = _noted(block) if freed < characters else block
            freed += _length(block) - _length(noted)
            blocks.append(noted)
        shorter[index] = cast(MessageParam, {**messages[index], "content": blocks})
    return shorter, freed


def without_images(messages: Sequence[MessageParam]) -> list[MessageParam]:
    """For a server that cannot read one of them, or has no room."""
    note = {"type": "text", "text": NO_IMAGE}
    return [
        cast(
            MessageParam,
            {**m, "content": [note if b["type"] == "image" else b for b in _blocks(m)]},
        )
        for m in messages
    ]


def without_all(messages: Sequence[MessageParam]) -> list[MessageParam]:
    """Without any output or image, for a conversation that the server found too long."""
    shorter, _ = without_outputs(messages, sum(map(_characters, messages)), kept=0)
    return without_images(shorter)


def asking_for_summary(messages: Sequence[MessageParam]) -> list[MessageParam]:
    """The question goes into the last message, behind the results that have to stand first."""
    *before, last = messages
    question = {"type": "text", "text": ASK_FOR_SUMMARY}
    return [*before, cast(MessageParam, {**last, "content": [*_blocks(last), question]})]


def begun_anew(
    messages: Sequence[MessageParam], summary: str, window: Window
) -> list[MessageParam]:
    """The task with the summary behind it, and as many of the last turns as there is room for."""
    opening = [block for block in _blocks(messages[0]) if not _is_summary(block)]
    opening.append({"type": "text", "text": f"{SUMMARY_HEAD}\n\n{summary.strip() or NO_SUMMARY}"})
    first = cast(MessageParam, {**messages[0], "content": opening})
    return [first, *_last_turns(messages, window.turns)]


def can_be_begun_anew(messages: Sequence[MessageParam]) -> bool:
    """There is something behind the task."""
    return bool(_replies(messages))


def _last_turns(messages: Sequence[MessageParam], tokens: int) -> list[MessageParam]:
    """The last one always, if need be without its outputs."""
    for reply in _replies(messages)[-KEPT_TURNS:]:
        turns = list(messages[reply:])
        if estimate(turns) <= tokens:
            return turns
    return without_outputs(turns, sum(map(_characters, turns)), kept=0)[0]


def _replies(messages: Sequence[MessageParam]) -> list[int]:
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]


def _blocks(message: MessageParam) -> list[Any]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _is_summary(block: Mapping[str, Any]) -> bool:
    return block["type"] == "text" and str(block["text"]).startswith(SUMMARY_HEAD)


def _noted(block: Mapping[str, Any]) -> Mapping[str, Any]:
    length = _length(block)
    if length < WORTH_LEAVING_OUT:
        return block
    return {**block, "content": f"[output of this earlier call left out: {length} characters]"}


def _length(block: Mapping[str, Any]) -> int:
    """Characters of a tool's output."""
    return len(block["content"]) if block["type"] == "tool_result" else 0


def _characters(message: MessageParam) -> int:
    return sum(map(_length, _blocks(message)))


def _tokens(block: Mapping[str, Any]) -> int:
    if block["type"] == "image":
        return IMAGE_TOKENS
    return -(-len(json.dumps(block, ensure_ascii=False)) // CHARACTERS_ADDED)
