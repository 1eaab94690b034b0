"""What the real SDK sees: whole and streamed replies, tools, usage."""

from __future__ import annotations

import base64
import json

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic

from standin_model.scripting import bash, issue_with_script

from .asking import BASH, MODEL, ask, ask_streaming, results, text, user

QUESTION = issue_with_script(
    {"text": "Looking at two things.", "tools": [bash("ls -la"), bash("cat README.md")]},
    {"text": "All done."},
)


@pytest.mark.parametrize("how", [ask, ask_streaming])
async def test_conversation_plays_its_steps_in_order(client: AsyncAnthropic, how) -> None:
    first = await how(client, user(QUESTION))
    second = await how(client, user(QUESTION), first.to_param(), results(first))

    calls = [block for block in first.content if block.type == "tool_use"]
    assert first.stop_reason == "tool_use"
    assert [call.input for call in calls] == [{"command": "ls -la"}, {"command": "cat README.md"}]
    assert len({call.id for call in calls}) == 2
    assert (second.stop_reason, text(second)) == ("end_turn", "All done.")


async def test_streamed_reply_comes_in_the_documented_order(http: httpx2.AsyncClient) -> None:
    body = {"model": MODEL, "max_tokens": 9, "stream": True, "tools": [BASH]}
    body["messages"] = [user(QUESTION)]

    answer = await http.post("/v1/messages", json=body)

    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line[:6] == "data: "]
    names = [event["type"] for event in events]
    deltas = [e["delta"]["type"] for e in events if e["type"] == "content_block_delta"]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert names[-2:] == ["message_delta", "message_stop"]
    assert names.count("content_block_stop") == 3
    assert deltas.count("input_json_delta") >= 4
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_long_text_is_split_into_several_deltas(client: AsyncAnthropic) -> None:
    said = "A long sentence that does not fit into a single piece of the stream. " * 3
    async with client.messages.stream(
        model=MODEL, max_tokens=1000, messages=[user(issue_with_script({"text": said}))]
    ) as stream:
        pieces = [piece async for piece in stream.text_stream]

    assert len(pieces) > 5
    assert "".join(pieces) == said


async def test_thinking_block_can_be_sent_back(client: AsyncAnthropic) -> None:
    question = issue_with_script(
        {"thinking": "Hm, where is it?", "tools": [bash("ls")]}, {"text": "Found."}
    )
    first = await ask_streaming(client, user(question))
    second = await ask_streaming(client, user(question), first.to_param(), results(first))

    assert [block.type for block in first.content] == ["thinking", "tool_use"]
    assert text(second) == "Found."


async def test_counted_tokens_are_those_of_the_usage(client: AsyncAnthropic) -> None:
    counted = await client.messages.count_tokens(
        model=MODEL, messages=[user(QUESTION)], tools=[BASH]
    )
    reply = await ask(client, user(QUESTION))

    assert reply.usage.input_tokens == counted.input_tokens > 50
    assert reply.usage.output_tokens > 10


async def test_models_are_listed(client: AsyncAnthropic) -> None:
    models = await client.models.list()

    assert MODEL in [model.id for model in models.data]
    assert (await client.models.retrieve("claude-anything")).id == "claude-anything"


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
async def test_either_header_carries_the_key(url: str, key: str, header: str) -> None:
    value = key if header == "x-api-key" else f"Bearer {key}"
    async with httpx2.AsyncClient(base_url=url, timeout=10) as http:
        answer = await http.get("/v1/models", headers={header: value})

    assert answer.status_code == 200
    assert answer.headers["request-id"].startswith("req_")


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "sk-wrong"}, {"authorization": "Basic x"}])
async def test_wrong_key_is_refused_in_the_apis_shape(url: str, headers: dict[str, str]) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=10) as http:
        answer = await http.get("/v1/models", headers=headers)

    assert answer.status_code == 401
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "authentication_error"


async def test_received_requests_are_shown_without_the_key(
    client: AsyncAnthropic, http: httpx2.AsyncClient, key: str
) -> None:
    await ask(client, user(QUESTION))

    answer = await http.get("/_standin/requests", headers={"x-api-key": ""})
    received = answer.json()[-1]

    assert (received["path"], received["step"], received["outcome"]) == ("/v1/messages", 0, "ok")
    assert received["body"]["messages"][0]["content"] == QUESTION
    assert received["headers"]["anthropic-version"]
    assert key not in answer.text


UNANSWERED = {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {"command": "ls"}}


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "at least one message"),
        ([user("")], "non-empty"),
        ([user([{"type": "text", "text": " "}])], "non-empty"),
        ([user("Hi"), {"role": "assistant", "content": "He"}], "prefill"),
        ([user("Hi"), {"role": "assistant", "content": [UNANSWERED]}, user("So?")], "toolu_1"),
        (
            [user([{"type": "tool_result", "tool_use_id": "toolu_2", "content": ""}])],
            "unexpected `tool_use_id`",
        ),
    ],
)
async def test_request_that_the_real_api_refuses_is_refused(
    client: AsyncAnthropic, messages, complaint: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=complaint):
        await ask(client, *messages)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"temperature": 0.5}, "temperature: Extra inputs"),
        ({"tools": [{"type": "bash_20250124", "name": "shell"}]}, "is named 'bash'"),
        (
            {"system": [{"type": "text", "text": "x", "cache_control": {}}] * 5},
            "maximum of 4 blocks",
        ),
    ],
)
async def test_parameter_that_the_real_api_refuses_is_refused(
    http: httpx2.AsyncClient, fields: dict[str, object], complaint: str
) -> None:
    body = {"model": MODEL, "max_tokens": 9, "messages": [user("Hi")], **fields}
    answer = await http.post("/v1/messages", json={k: v for k, v in body.items() if v is not None})

    assert answer.status_code == 400
    assert complaint in answer.json()["error"]["message"]


IMAGE = b"\x89PNG\r\n\x1a\nand more"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"media_type": "image/svg+xml"}, "media_type"),
        ({"media_type": "image/gif"}, "Could not process image"),
        ({"data": base64.b64encode(IMAGE + b"BROKEN").decode()}, "Could not process image"),
        ({"data": "no base64"}, "invalid base64"),
        ({"data": "A" * 6_000_000}, "exceeds 5 MB"),
        ({"type": "url", "url": "https://example.com/a.png"}, "only base64"),
    ],
)
async def test_image_that_the_real_api_refuses_is_refused(
    http: httpx2.AsyncClient, fields: dict[str, str], complaint: str
) -> None:
    good = {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(IMAGE).decode(),
    }
    text = {"type": "text", "text": issue_with_script({"text": "I see."})}

    async def answer(source: dict[str, str]) -> httpx2.Response:
        content = [text, {"type": "image", "source": source}]
        body = {"model": MODEL, "max_tokens": 9, "messages": [user(content)]}
        return await http.post("/v1/messages", json=body)

    refused = await answer({**good, **fields})
    assert refused.status_code == 400
    assert complaint in refused.json()["error"]["message"]
    assert (await answer(good)).status_code == 200
