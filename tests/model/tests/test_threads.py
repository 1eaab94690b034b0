"""Thread mode, driven by the SDK's own threads and tool runner."""

from __future__ import annotations

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic, beta_async_tool

from standin_model.app import create_app
from standin_model.scripting import issue_with_script
from standin_model.server import running

from .asking import MODEL

QUESTION = issue_with_script(
    {"tools": [{"name": "add", "input": {"a": 2, "b": 3}}]},
    {"text": "And once more.", "tools": [{"name": "add", "input": {"a": 5, "b": 5}}]},
    {"text": "Ten."},
)


@beta_async_tool
async def add(a: int, b: int) -> str:
    """Add two numbers.

    Args:
        a: the first
        b: the second
    """
    return str(a + b)


async def test_tool_runner_sends_only_what_is_new(
    client: AsyncAnthropic, http: httpx2.AsyncClient
) -> None:
    runner = client.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=100,
        system="Add up.",
        messages=[{"role": "user", "content": QUESTION}],
        tools=[add],
    )
    last = await runner.until_done()

    bodies = [r["body"] for r in (await http.get("/_standin/requests")).json() if r["body"]]
    assert last.content[0].text == "Ten."
    assert [body["thread"]["type"] for body in bodies] == ["create", "continue", "continue"]
    assert [len(body["messages"]) for body in bodies] == [1, 1, 1]
    assert "system" not in bodies[1]
    assert bodies[2]["messages"][0]["content"][0]["content"] == "10"


async def test_streaming_tool_runner_speaks_threads_too(client: AsyncAnthropic) -> None:
    runner = client.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": QUESTION}],
        tools=[add],
        stream=True,
    )
    texts = []
    async for stream in runner:
        message = await stream.get_final_message()
        texts += [block.text for block in message.content if block.type == "text"]

    assert texts == ["And once more.", "Ten."]


async def test_client_starts_again_when_the_server_lost_its_thread(key: str) -> None:
    async with running(create_app(key)) as before, running(create_app(key)) as after:
        async with AsyncAnthropic(api_key=key, base_url=before, timeout=10) as client:
            thread = client.beta.messages.thread(model=MODEL, max_tokens=100, tools=[])
            await thread.send({"role": "user", "content": issue_with_script({"text": "One."})})
        async with AsyncAnthropic(api_key=key, base_url=after, timeout=10) as client:
            with pytest.raises(anthropic.NotFoundError) as caught:
                await client.beta.messages.create(
                    model=MODEL,
                    max_tokens=100,
                    messages=[{"role": "user", "content": "Two?"}],
                    thread={
                        "type": "continue",
                        "previous_message_id": thread.previous_message_id or "",
                    },
                    betas=["message-threads-2026-08-12"],
                )

    assert caught.value.error_code == "thread_not_found"


async def test_reply_can_be_continued_only_once(client: AsyncAnthropic) -> None:
    thread = client.beta.messages.thread(model=MODEL, max_tokens=100)
    await thread.send({"role": "user", "content": issue_with_script({"text": "1"}, {"text": "2"})})
    first = thread.previous_message_id
    await thread.send({"role": "user", "content": "Next."})

    with pytest.raises(anthropic.BadRequestError) as caught:
        await client.beta.messages.create(
            model=MODEL,
            max_tokens=100,
            messages=[{"role": "user", "content": "Next again."}],
            thread={"type": "continue", "previous_message_id": first or ""},
            betas=["message-threads-2026-08-12"],
        )

    assert caught.value.error_code == "thread_already_continued"


async def test_thread_needs_its_beta_header(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="thread: Extra inputs"):
        await client.beta.messages.create(
            model=MODEL,
            max_tokens=100,
            messages=[{"role": "user", "content": "Hi"}],
            thread={"type": "create"},
        )
