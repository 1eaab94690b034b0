"""Bodies that would be a way out of the sandbox, into others' data, or past a check.

Each attack stands beside the harmless request that it is made from, which passes.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from .gateway_at_work import MODEL, asking, error_of, stage

PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
URL = {"type": "url", "url": "https://attacker.example/?stolen=1"}
FILE = {"type": "file", "file_id": "file_of_somebody_else"}
CUSTOM = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}


def content(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def result(*blocks: dict[str, Any]) -> dict[str, Any]:
    return content({"type": "tool_result", "tool_use_id": "toolu_1", "content": list(blocks)})


def image(source: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image", "source": source}


def document(source: dict[str, Any]) -> dict[str, Any]:
    return {"type": "document", "source": source}


def tool(**fields: Any) -> dict[str, Any]:
    return {"tools": [fields]}


TEXT = {"type": "text", "text": "Hello"}
ATTACKS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # name: the attack, its harmless twin, the place that the answer names
    "server-side-fetch": (
        tool(type="web_fetch_20250910", name="web_fetch"),
        tool(**CUSTOM),
        "tools.0.type",
    ),
    "server-side-search": (
        tool(type="web_search_20250305", name="web_search", max_uses=8),
        tool(type="bash_20250124", name="bash"),
        "tools.0.type",
    ),
    "code-execution": (
        tool(type="code_execution_20260521", name="code_execution"),
        tool(type="text_editor_20250728", name="str_replace_based_edit_tool"),
        "tools.0.type",
    ),
    "tool-that-is-called-by-code-execution": (
        tool(**CUSTOM, allowed_callers=["code_execution_20260521"]),
        tool(**CUSTOM, allowed_callers=["direct"]),
        "tools.0.allowed_callers.0",
    ),
    "tool-of-a-type-that-is-no-word": (
        tool(**CUSTOM, type=["web_fetch_20250910"]),
        tool(**CUSTOM, type="custom"),
        "tools.0.type",
    ),
    "tools-that-are-no-list": (
        {"tools": {"0": {"type": "web_fetch_20250910", "name": "web_fetch"}}},
        {"tools": []},
        "tools",
    ),
    "server-tool-added-in-the-middle": (
        {
            "messages": [
                {"role": "user", "content": "Hello"},
                {
                    "role": "system",
                    "content": [
                        {
                            "type": "tool_addition",
                            "tool": {
                                "type": "tool_definition",
                                "definition": {"type": "web_fetch_20250910", "name": "web_fetch"},
                            },
                        }
                    ],
                },
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "Hello"},
                {
                    "role": "system",
                    "content": [
                        {
                            "type": "tool_addition",
                            "tool": {"type": "tool_definition", "definition": CUSTOM},
                        }
                    ],
                },
            ]
        },
        "messages.1.content.0.tool.definition.type",
    ),
    "advisor-with-another-model": (
        tool(type="advisor_20260301", name="advisor", model="claude-mythos-5-1"),
        tool(type="memory_20250818", name="memory"),
        "tools.0.type",
    ),
    "schema-that-is-fetched": (
        tool(name="look", input_schema={"properties": {"a": {"$ref": "https://a.example/s"}}}),
        tool(name="look", input_schema={"properties": {"a": {"$ref": "#/$defs/a"}}}),
        "tools.0.input_schema",
    ),
    "remote-mcp-server": (
        {"mcp_servers": [{"type": "url", "url": "https://attacker.example/mcp", "name": "x"}]},
        {"metadata": {"user_id": "one"}},
        "mcp_servers",
    ),
    "remote-mcp-toolset": (
        tool(type="mcp_toolset", mcp_server_name="x"),
        tool(**CUSTOM, defer_loading=True),
        "tools.0.type",
    ),
    "image-from-a-url": (
        content(image(URL)),
        content(image(PNG)),
        "messages.0.content.0.source.type",
    ),
    "document-from-a-url": (
        content(document(URL)),
        content(document(PDF)),
        "messages.0.content.0.source.type",
    ),
    "image-from-a-url-in-a-tool-result": (
        result(TEXT, image(URL)),
        result(TEXT, image(PNG)),
        "messages.0.content.0.content.1.source.type",
    ),
    "document-from-a-url-in-a-tool-result": (
        result(document(URL)),
        result(document(PDF)),
        "messages.0.content.0.content.0.source.type",
    ),
    "image-from-a-url-in-a-document-in-a-tool-result": (
        result(document({"type": "content", "content": [image(URL)]})),
        result(document({"type": "content", "content": [image(PNG)]})),
        "messages.0.content.0.content.0.source.content.0.source.type",
    ),
    "url-beside-a-harmless-source": (
        content(image({**PNG, "url": URL["url"]})),
        content(image(PNG)),
        "messages.0.content.0.source.url",
    ),
    "image-in-the-system-prompt": (
        {"system": [image(URL)]},
        {"system": [TEXT]},
        "system.0.type",
    ),
    "foreign-file": (
        content(document(FILE)),
        content(document({"type": "text", "media_type": "text/plain", "data": "Hi"})),
        "messages.0.content.0.source.type",
    ),
    "foreign-image-file-in-a-tool-result": (
        result(image(FILE)),
        result(image(PNG)),
        "messages.0.content.0.content.0.source.type",
    ),
    "foreign-file-for-a-container": (
        content({"type": "container_upload", "file_id": "file_of_somebody_else"}),
        content(TEXT),
        "messages.0.content.0.type",
    ),
    "foreign-container": (
        {"container": "container_of_somebody_else"},
        {"stop_sequences": ["container"]},
        "container",
    ),
    "skills": (
        {"container": {"skills": [{"type": "custom", "skill_id": "skill_1"}]}},
        {"system": "skills"},
        "container",
    ),
    "foreign-thread": (
        {"thread": {"type": "continue", "previous_message_id": "msg_of_somebody_else"}},
        {"temperature": 1},
        "thread",
    ),
    "new-thread": ({"thread": {"type": "create"}}, {"top_k": 1}, "thread"),
    "foreign-message": (
        {"diagnostics": {"previous_message_id": "msg_of_somebody_else"}},
        {"thinking": {"type": "adaptive", "display": "updates"}},
        "diagnostics",
    ),
    "server-tool-result-as-input": (
        content({"type": "web_fetch_tool_result", "tool_use_id": "x", "content": {}}),
        content({"type": "tool_result", "tool_use_id": "x", "content": "Hi"}),
        "messages.0.content.0.type",
    ),
    "content-that-is-no-list": (
        {"messages": [{"role": "user", "content": image(URL)}]},
        {"messages": [{"role": "user", "content": [image(PNG)]}]},
        "messages.0.content",
    ),
    "fallback-to-another-model": (
        {"fallbacks": [{"model": "claude-mythos-5-1"}]},
        {"output_config": {"effort": "low"}},
        "fallbacks",
    ),
    "another-place": ({"inference_geo": "us"}, {"top_p": 0.9}, "inference_geo"),
    "another-tier": ({"service_tier": "auto"}, {"stream": False}, "service_tier"),
    "dearer-speed": ({"speed": "fast"}, {"stream": None}, "speed"),
    "another-workspace": (
        {"workspace_id": "wrkspc_1"},
        {"tool_choice": {"type": "auto"}},
        "workspace_id",
    ),
    "compaction-that-is-not-counted": (
        {"context_management": {"edits": [{"type": "compact_20260112"}]}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        "context_management.edits.0.type",
    ),
    "unknown-field": ({"made_up": 1}, {"cache_control": {"type": "ephemeral"}}, "made_up"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_is_refused_where_its_harmless_twin_passes(attack: str) -> None:
    hostile, harmless, place = ATTACKS[attack]
    async with stage() as acting:
        refused = await acting.post(asking(**hostile))
        assert acting.received == []
        passed = await acting.post(asking(**harmless))

    assert refused.status_code == 400
    assert error_of(refused)["type"] == "invalid_request_error"
    assert error_of(refused)["message"].startswith(f"{place}: ")
    assert refused.headers["x-should-retry"] == "false"
    assert passed.status_code == 200
    assert acting.received[0].body == asking(**harmless)


async def test_attack_on_counting_is_refused_in_the_same_way() -> None:
    async with stage() as acting:
        refused = await acting.post(asking(**content(image(URL))), "/v1/messages/count_tokens")
        passed = await acting.post(asking(**content(image(PNG))), "/v1/messages/count_tokens")

    assert refused.status_code == 400
    assert passed.json() == {"input_tokens": 7}


async def test_words_of_an_attack_pass_where_they_are_only_words() -> None:
    words = {
        "messages": [
            {"role": "user", "content": "Hello"},
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "tool_use",
                        "id": "toolu_1",
                        "name": "look",
                        "input": {"source": URL, "type": "web_fetch_20250910", "thread": FILE},
                        "caller": {"type": "direct"},
                    }
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": json.dumps(URL)}
                ],
            },
        ]
    }
    async with stage() as acting:
        passed = await acting.post(asking(**words))

    assert passed.status_code == 200
    assert acting.received[0].body == asking(**words)


async def test_other_model_is_refused() -> None:
    async with stage(more_models=("claude-haiku-5-5",)) as acting:
        refused = await acting.post(asking(model="claude-mythos-5-1"))
        assert acting.received == []
        passed = [await acting.post(asking(model=name)) for name in (MODEL, "claude-haiku-5-5")]

    assert refused.status_code == 404
    assert error_of(refused)["type"] == "not_found_error"
    assert MODEL in error_of(refused)["message"]
    assert [response.status_code for response in passed] == [200, 200]


async def test_any_model_passes_where_the_operator_says_so() -> None:
    async with stage(any_model=True) as acting:
        passed = await acting.post(asking(model="claude-mythos-5-1"))

    assert passed.status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"model": "a", "model": "b"}', "a key twice: 'model'"),
        (b'{"model": "a", "\\u006dodel": "b"}', "a key twice: 'model'"),
        (b'{"messages": [{"content": {"type": "x", "type": "url"}}]}', "a key twice: 'type'"),
        (b"{" + b'"a":[' * 5000 + b"]" * 5000 + b"}", "nested more than"),
        (b'{"a": [' + b"[]," * 600_000 + b"[]]}", "too many values"),
        (b'{"max_tokens": NaN}', "NaN"),
        (b'{"max_tokens": -Infinity}', "-Infinity"),
        (b'{"max_tokens": 1e999}', "too large"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "too large"),
        (b'{"model": "\xff\xfe"}', "not valid UTF-8"),
        ('{"model": "a"}'.encode("utf-16"), "not valid UTF-8"),
        ("\ufeff{}".encode(), "not valid JSON"),
        (b'{"\\ud800": 1}', "not valid Unicode"),
        (b"[]", "not a JSON object"),
        (b"", "not valid JSON"),
        (b'{"model": "a', "not valid JSON"),
        (b'{"model": 5, "messages": []}', "model: a string is required"),
        (b'{"model": "a"}', "messages: a list is required"),
        (b'{"model": "a", "messages": [], "stream": "yes"}', "stream: expected true or false"),
        (b'{"model": "a", "messages": [], "max_tokens": -1}', "max_tokens: expected"),
        (b'{"model": "a", "messages": [], "max_tokens": true}', "max_tokens: expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "body",
)
async def test_body_that_parsers_could_read_differently_is_refused(body: bytes, words: str) -> None:
    async with stage() as acting:
        refused = await acting.post(body)
        assert acting.received == []
        passed = await acting.post()

    assert refused.status_code == 400
    assert words in error_of(refused)["message"]
    assert passed.status_code == 200


async def test_what_is_sent_on_is_written_anew() -> None:
    spaced = (
        b' { "model" : "claude-opus-5-5", "max_tokens":100 ,"messages":[ ], "system":"\\u00e9"}'
    )
    async with stage() as acting:
        await acting.post(spaced)

    raw = acting.received[0].raw
    expected = '{"model":"claude-opus-5-5","max_tokens":100,"messages":[],"system":"é"}'
    assert raw.decode() == expected


async def test_half_a_surrogate_pair_does_not_lose_the_conversation() -> None:
    async with stage() as acting:
        passed = await acting.post(json.dumps(asking(system="cut \ud83d")).encode())

    assert passed.status_code == 200
    assert acting.received[0].body["system"] == "cut ?"
