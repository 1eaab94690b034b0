"""What a program in the sandbox may ask of the Messages API, written down in full.

Made from the parameters of the `anthropic` SDK 2.12 (`beta/message_create_params.py` and the types
that it names) and from what Claude Code 2.1.332 sends. Left out, and so refused, is what would be
a way out of the sandbox, into other people's data, past the budget or to another model:

- tools that run at the server (web search and fetch, code execution, tool search, advisor, remote
  MCP), their results as input, `mcp_servers`, `container`;
- sources that the server fetches (`url`) or has stored (`file`), `container_upload`;
- what refers to earlier requests: `thread`, `diagnostics.previous_message_id`;
- who pays, where and how fast: `billing_policy`, `workspace_id`, `user_profile_id`,
  `fallback_credit_token`, `inference_geo`, `service_tier`, `speed`;
- models that the server chooses: `fallbacks`;
- the server's own compaction, whose tokens are not in a reply's usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from patchwright_runner.gateway.grammar import (
    Check,
    absent,
    anything,
    fields,
    flat,
    listed,
    plain,
    refuse,
    tagged,
    text_or,
    words,
)

MAX_TOKENS = 1_000_000
"""More than any model writes: a reservation must stay a number."""


def local_schema(value: Any, where: str) -> None:
    """A JSON schema whose references stay inside of it: whoever resolves one would fetch it."""
    if isinstance(value, dict):
        for name in ("$ref", "$dynamicRef"):
            target = value.get(name)
            if isinstance(target, str) and not target.startswith("#"):
                refuse(where, f"{name} may only point into the schema itself")
        value = list(value.values())
    if isinstance(value, list):
        for found in value:
            local_schema(found, where)


CACHE: Final = fields(type=words("ephemeral"), ttl=words("5m", "1h"))
DIRECT: Final = tagged({"direct": fields(type=plain)})
CITATIONS: Final = listed(
    tagged(
        dict.fromkeys(
            (
                "char_location",
                "page_location",
                "content_block_location",
                "search_result_location",
            ),
            flat,
        )
    )
)
TEXT: Final = fields(type=plain, text=plain, cache_control=CACHE, citations=CITATIONS)
IMAGE: Final = fields(
    type=plain,
    source=tagged({"base64": fields(type=plain, media_type=plain, data=plain)}),
    cache_control=CACHE,
    transformations=flat,
)
DOCUMENT: Final = fields(
    type=plain,
    source=tagged(
        {
            "base64": fields(type=plain, media_type=plain, data=plain),
            "text": fields(type=plain, media_type=plain, data=plain),
            "content": fields(
                type=plain,
                content=text_or(listed(tagged({"text": TEXT, "image": IMAGE}))),
            ),
        }
    ),
    cache_control=CACHE,
    citations=flat,
    context=plain,
    title=plain,
)
SEARCH_RESULT: Final = fields(
    type=plain,
    # A label that the client made up: nobody fetches it.
    source=plain,
    title=plain,
    content=listed(tagged({"text": TEXT})),
    cache_control=CACHE,
    citations=flat,
)
SHOWN: Final[Mapping[str, Check]] = MappingProxyType(
    {"text": TEXT, "image": IMAGE, "document": DOCUMENT, "search_result": SEARCH_RESULT}
)
RESULTS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        **SHOWN,
        "tool_reference": fields(type=plain, tool_name=plain, cache_control=CACHE),
    }
)

_CLIENT_TOOL: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "type": plain,
        "name": plain,
        "cache_control": CACHE,
        "strict": plain,
        "defer_loading": plain,
        "input_examples": anything,
        # All others are the server's code execution.
        "allowed_callers": listed(words("direct")),
    }
)
TOOLS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "custom": fields(
            **_CLIENT_TOOL,
            description=plain,
            input_schema=local_schema,
            eager_input_streaming=plain,
        ),
        "bash_20241022": fields(**_CLIENT_TOOL),
        "bash_20250124": fields(**_CLIENT_TOOL),
        "text_editor_20241022": fields(**_CLIENT_TOOL),
        "text_editor_20250124": fields(**_CLIENT_TOOL),
        "text_editor_20250429": fields(**_CLIENT_TOOL),
        "text_editor_20250728": fields(**_CLIENT_TOOL, max_characters=plain),
        # The client keeps the memory's files; the server only knows the tool's schema.
        "memory_20250818": fields(**_CLIENT_TOOL),
    }
)
"""Executed by the client, all of them. There is no screen in the sandbox: no `computer_*`."""
TOOL: Final = tagged(TOOLS, untagged="custom")

_NAMED: Final = fields(type=plain, name=plain)
BLOCKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        **SHOWN,
        "thinking": fields(type=plain, thinking=plain, signature=plain),
        "redacted_thinking": fields(type=plain, data=plain),
        "tool_use": fields(
            type=plain,
            id=plain,
            name=plain,
            input=anything,
            cache_control=CACHE,
            caller=DIRECT,
            toolset_name=absent,
        ),
        "tool_result": fields(
            type=plain,
            tool_use_id=plain,
            content=text_or(listed(tagged(RESULTS))),
            is_error=plain,
            cache_control=CACHE,
            toolset_name=absent,
        ),
        "tool_addition": fields(
            type=plain,
            tool=tagged(
                {
                    "tool_reference": _NAMED,
                    "tool_definition": fields(type=plain, definition=TOOL),
                }
            ),
            cache_control=CACHE,
        ),
        "tool_removal": fields(
            type=plain, tool=tagged({"tool_reference": _NAMED}), cache_control=CACHE
        ),
    }
)
MESSAGE: Final = fields(
    role=words("user", "assistant", "system"),
    content=text_or(listed(tagged(BLOCKS))),
    # For one turn, in messages of the system.
    output_config=fields(effort=plain),
    clear_at=plain,
)
_PARALLEL: Final = fields(type=plain, disable_parallel_tool_use=plain)
BINDING: Final = fields(prefix_mismatch_behavior=anything)
EDIT: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "clear_thinking_20251015": fields(type=plain, keep=anything),
        "clear_tool_uses_20250919": fields(
            type=plain,
            trigger=flat,
            keep=flat,
            clear_at_least=flat,
            clear_tool_inputs=anything,
            exclude_tools=listed(plain),
        ),
    }
)
REQUEST: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "model": plain,
        "messages": listed(MESSAGE),
        "max_tokens": plain,
        "system": text_or(listed(tagged({"text": TEXT}))),
        "stream": plain,
        "temperature": plain,
        "top_p": plain,
        "top_k": plain,
        "stop_sequences": listed(plain),
        "cache_control": CACHE,
        "metadata": fields(user_id=plain),
        "tools": listed(TOOL),
        "tool_choice": tagged(
            {
                "auto": _PARALLEL,
                "any": _PARALLEL,
                "tool": fields(type=plain, name=plain, disable_parallel_tool_use=plain),
                "none": fields(type=plain),
            }
        ),
        "thinking": tagged(
            {
                "adaptive": fields(type=plain, display=plain, block_binding=BINDING),
                "enabled": fields(
                    type=plain, budget_tokens=plain, display=plain, block_binding=BINDING
                ),
                "disabled": fields(type=plain),
                "between_tools": fields(type=plain),
            }
        ),
        "output_config": fields(
            effort=plain,
            format=tagged({"json_schema": fields(type=plain, schema=local_schema)}),
            task_budget=flat,
        ),
        "context_management": fields(edits=listed(tagged(EDIT))),
    }
)
"""The top-level fields. Those of `count_tokens` are some of them."""
_check_request: Final = fields(**REQUEST)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the gateway needs to know of a request that may pass."""

    model: str
    max_tokens: int
    stream: bool


def check(body: Mapping[str, Any]) -> Asked:
    """Raises RefusedError, naming the place."""
    _check_request(body, "")
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        refuse("model", "a string is required")
    if not isinstance(messages, list):
        refuse("messages", "a list is required")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        refuse("stream", "expected true or false")
    return Asked(model, _max_tokens(body.get("max_tokens")), bool(stream))


def _max_tokens(value: Any) -> int:
    """Absent in `count_tokens`; elsewhere the server asks for it."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_TOKENS:
        refuse("max_tokens", f"expected a whole number up to {MAX_TOKENS}")
    return value
