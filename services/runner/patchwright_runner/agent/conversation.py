"""A conversation with the model as it is sent and kept: what was said in it, and what comes next.

All of an agent's state is here, so that whoever has the messages can go on with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from anthropic.types import MessageParam

from patchwright_common.errors import Permanent
from patchwright_runner.agent.model import Reply
from patchwright_runner.agent.tools import Outcome

GO_ON: Final = "Your reply was cut off. Go on exactly where it ended."
COMPLETE: Final = frozenset({"tool_use", "end_turn", "stop_sequence"})
"""After any other reason to stop, known or not, the reply may be cut off in its middle."""
SAY_SOMETHING: Final = "Finish now with your final message, as described at the beginning."


def user_message(text: str) -> MessageParam:
    """Half a surrogate pair, which cannot be sent, is replaced."""
    said = text.encode("utf-8", "replace").decode()
    return {"role": "user", "content": [{"type": "text", "text": said}]}


def continuation(
    messages: Sequence[MessageParam], reply: Reply, outcomes: Sequence[Outcome]
) -> list[MessageParam]:
    """The reply, and what the model is told about it; nothing more after its last words.

    Of a refused reply nothing stays: the API asks for that before a conversation goes on.
    """
    if reply.stop_reason == "refusal":
        return []
    said: list[MessageParam] = []
    if reply.content:
        said.append({"role": "assistant", "content": cast(Any, reply.content)})
    if outcomes:
        return [*said, {"role": "user", "content": [outcome.result for outcome in outcomes]}]
    if reply.stop_reason not in COMPLETE:
        return [*said, user_message(GO_ON)]
    if not last_words([*messages, *said]):
        return [*said, user_message(SAY_SOMETHING)]
    return said


def check_ending(reply: Reply) -> None:
    """Raises Permanent when the model can or will not go on."""
    if reply.stop_reason == "refusal":
        category = f" (category: {reply.refusal})" if reply.refusal else ""
        raise Permanent(
            f"The model declined to work on this issue{category}.",
            advice="Put the issue in other words, or choose another model.",
        )
    if reply.stop_reason == "model_context_window_exceeded":
        raise Permanent(
            "The conversation no longer fits into the model's context window.",
            advice="Ask for a smaller part of the work.",
        )


def has_ended(messages: Sequence[Mapping[str, Any]]) -> bool:
    """The model had the last word; otherwise it is its turn."""
    return bool(messages) and messages[-1]["role"] == "assistant"


def last_words(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the model has written since it was last told something, in however many replies."""
    said: list[str] = []
    for message in reversed(messages):
        if message["role"] == "assistant":
            said.append(_text(message["content"]))
        elif _text(message["content"]) not in (GO_ON, SAY_SOMETHING):
            break
    return "".join(reversed(said)).strip()


def _text(content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block["type"] == "text")
