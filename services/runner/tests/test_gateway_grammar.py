"""The grammar knows what the SDK knows: a field that is new there is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

import pytest
from anthropic.types import beta
from anthropic.types.beta import message_create_params

from patchwright_runner.gateway import request
from patchwright_runner.gateway.headers import BETAS, VERSIONS
from patchwright_runner.gateway.refusal import RefusedError

REFUSED = {
    "billing_policy",
    "compaction",
    "container",
    "diagnostics",
    "fallback_credit_token",
    "fallbacks",
    "inference_geo",
    "mcp_servers",
    "service_tier",
    "speed",
    "thread",
    "user_profile_id",
    "workspace_id",
}
NOT_IN_THE_BODY = {"betas"}
OF_OLDER_VERSIONS = {"temperature", "top_k", "top_p"}
"""Removed with 2026-10-21; the version that Claude Code asks for has them."""
REFUSED_BLOCKS = {
    "advisor_tool_result",
    "bash_code_execution_tool_result",
    "browser_state",
    "code_execution_tool_result",
    "compaction",
    "container_upload",
    "fallback",
    "mcp_tool_listing",
    "mcp_tool_result",
    "mcp_tool_use",
    "server_tool_use",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "web_fetch_tool_result",
    "web_search_tool_result",
}
CLIENT_TOOLS = ("custom", "bash_", "text_editor_", "memory_")


def names(shape: type) -> set[str]:
    return set(get_type_hints(shape))


def kinds(union: Any) -> dict[str, set[str]]:
    """Which fields each kind of a union has, by the word in its `type`."""
    found: dict[str, set[str]] = {}
    for shape in get_args(union):
        if not isinstance(shape, type):
            continue
        hints = get_type_hints(shape)
        words = [a for a in _literals(hints.get("type")) if isinstance(a, str)]
        for word in words:
            found.setdefault(word, set()).update(hints)
    return found


def _literals(hint: Any) -> list[Any]:
    arguments = get_args(hint)
    return [x for a in arguments for x in ([a] if isinstance(a, str) else _literals(a))]


def known(check: Mapping[str, Any], kind: str, field: str) -> bool:
    """Whether a field of a kind is looked at; null is, wherever the field is."""
    try:
        check[kind]({"type": kind, field: None}, "x")
    except RefusedError:
        return False
    return True


def test_each_field_of_a_request_is_decided() -> None:
    there = names(message_create_params.MessageCreateParamsBase) | {"stream"}

    assert there - REFUSED - NOT_IN_THE_BODY == set(request.REQUEST) - OF_OLDER_VERSIONS
    assert there >= REFUSED


def test_each_block_is_decided() -> None:
    there = kinds(beta.BetaContentBlockParam)

    assert set(there) == set(request.BLOCKS) | REFUSED_BLOCKS - {"browser_state"}
    results = kinds(beta.beta_tool_result_block_param.Content)
    assert set(results) == set(request.RESULTS) | {"browser_state"}


@pytest.mark.parametrize("kind", sorted(request.BLOCKS))
def test_each_field_of_a_block_is_known(kind: str) -> None:
    fields = kinds(beta.BetaContentBlockParam)[kind]

    assert {field for field in fields if not known(request.BLOCKS, kind, field)} == set()


def test_only_tools_that_the_client_executes_are_known() -> None:
    there = kinds(beta.BetaToolUnionParam)

    assert set(request.TOOLS) == {kind for kind in there if kind.startswith(CLIENT_TOOLS)}
    for kind in request.TOOLS:
        assert {field for field in there[kind] if not known(request.TOOLS, kind, field)} == set()


def test_kinds_of_thinking_and_choice_are_the_sdks() -> None:
    for field, union in (
        ("thinking", beta.BetaThinkingConfigParam),
        ("tool_choice", beta.BetaToolChoiceParam),
    ):
        for kind, fields in kinds(union).items():
            for name in fields - {"type"}:
                request.REQUEST[field]({"type": kind, name: None}, field)


def test_versions_are_those_of_the_clients() -> None:
    from anthropic._constants import ANTHROPIC_API_VERSION  # noqa: PLC0415

    assert ANTHROPIC_API_VERSION in VERSIONS


@pytest.mark.parametrize(
    "word", ["mcp", "files", "skills", "code-execution", "threads", "fast", "fallback", "1m", "web"]
)
def test_no_beta_opens_a_way_out(word: str) -> None:
    assert [token for token in BETAS if word in token] == []
