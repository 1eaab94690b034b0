"""The request checks of the real API that a client can get wrong, with its wording.

Source: https://platform.claude.com/docs/en/api/messages and /docs/en/api/errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from standin_model.errors import InvalidRequestError
from standin_model.images import check_image

ROLES = frozenset({"user", "assistant", "system"})
REMOVED_PARAMETERS = ("temperature", "top_p", "top_k")
"""Gone since version 2026-10-21; see /docs/en/api/versioning."""
CURRENT_VERSION = "2026-10-21"
MAX_CACHE_MARKS = 4
TOOL_NAMES = {
    "bash_20250124": "bash",
    "text_editor_20250124": "str_replace_editor",
    "text_editor_20250429": "str_replace_based_edit_tool",
    "text_editor_20250728": "str_replace_based_edit_tool",
}


def check_request(body: object, version: str) -> dict[str, Any]:
    """The body as a dict, or InvalidRequestError."""
    if not isinstance(body, dict):
        raise InvalidRequestError("The request body is not a JSON object.")
    for field in ("model", "messages"):
        if field not in body:
            raise InvalidRequestError(f"{field}: Field required")
    if version >= CURRENT_VERSION:
        for parameter in REMOVED_PARAMETERS:
            if parameter in body:
                raise InvalidRequestError(f"{parameter}: Extra inputs are not permitted")
    for tool in body.get("tools", []):
        expected = TOOL_NAMES.get(tool.get("type", "custom"), tool.get("name"))
        if not expected or tool.get("name") != expected:
            raise InvalidRequestError(
                f"tools: a tool of type {tool.get('type')!r} is named {expected!r}"
            )
    if sum(_cache_marks(body)) > MAX_CACHE_MARKS:
        raise InvalidRequestError("A maximum of 4 blocks with cache_control may be provided.")
    return body


def check_length(tokens: int, window: int) -> None:
    """The prompt alone; a reply that finds no room behind it is another matter."""
    if tokens > window:
        raise InvalidRequestError(f"prompt is too long: {tokens} tokens > {window} maximum")


def check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    """Check a whole conversation, as it stands after a thread was joined to its past."""
    if not messages:
        raise InvalidRequestError("messages: at least one message is required")
    for index, message in enumerate(messages):
        if message.get("role") not in ROLES:
            raise InvalidRequestError(
                f"messages.{index}.role: Input should be 'user' or 'assistant'"
            )
        _check_content(index, message.get("content"))
    if messages[0]["role"] == "assistant":
        raise InvalidRequestError("messages: first message must use the user role")
    if messages[-1]["role"] == "assistant":
        raise InvalidRequestError(
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    _check_tool_results(messages)


def _check_content(index: int, content: object) -> None:
    if not isinstance(content, str | list) or not content:
        raise InvalidRequestError(f"messages.{index}: content must be non-empty")
    for block in content if isinstance(content, list) else []:
        if block.get("type") == "text" and not block.get("text", "").strip():
            raise InvalidRequestError("messages: text content blocks must be non-empty")
        if block.get("type") == "image":
            check_image(f"messages.{index}", block.get("source"))


def _check_tool_results(messages: Sequence[Mapping[str, Any]]) -> None:
    """Every call is answered in the message right after it, and nothing else is answered."""
    asked: list[str] = []
    for index, message in enumerate(messages):
        answered = [b["tool_use_id"] for b in _blocks(message, "tool_result")]
        if stray := [i for i in answered if i not in asked]:
            raise InvalidRequestError(
                f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{stray[0]}"
            )
        if missing := [i for i in asked if i not in answered]:
            raise InvalidRequestError(
                f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks "
                f"immediately after: {', '.join(missing)}"
            )
        asked = [b["id"] for b in _blocks(message, "tool_use")]


def _blocks(message: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    content = message["content"]
    return [] if isinstance(content, str) else [b for b in content if b.get("type") == kind]


def _cache_marks(body: Mapping[str, Any]) -> Iterator[bool]:
    system = body.get("system", [])
    contents = [m.get("content") for m in body["messages"] if isinstance(m, dict)]
    for blocks in [body.get("tools", []), system, *contents]:
        if isinstance(blocks, list):
            yield from ("cache_control" in block for block in blocks)
