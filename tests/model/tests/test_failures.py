"""Each way in which the scripted model can fail, as the SDK sees it."""

from __future__ import annotations

import asyncio

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic

from standin_model.scripting import bash, issue_with_script

from .asking import ask, ask_streaming, results, text, user


def failing(**failure: object) -> str:
    return issue_with_script({"text": "Here after all.", "failures": [failure]})


async def test_error_repeats_the_key_when_asked_to(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await ask(client, user(failing(status=400, echo=True)))

    assert client.api_key
    assert client.api_key in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (403, anthropic.PermissionDeniedError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.OverloadedError),
    ],
)
async def test_status_fails_its_number_of_times_and_then_succeeds(
    client: AsyncAnthropic, status: int, error: type[anthropic.APIStatusError]
) -> None:
    question = user(failing(status=status, times=2))

    for _ in range(2):
        with pytest.raises(error):
            await ask(client, question)

    assert text(await ask(client, question)) == "Here after all."


async def test_status_fails_for_its_time_and_then_succeeds(client: AsyncAnthropic) -> None:
    question = user(failing(status=529, seconds=1.0))

    for _ in range(2):
        with pytest.raises(anthropic.OverloadedError):
            await ask(client, question)
    await asyncio.sleep(1.0)

    assert text(await ask(client, question)) == "Here after all."


async def test_rate_limit_says_when_to_come_back(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.RateLimitError) as caught:
        await ask(client, user(failing(status=429, retry_after=7)))

    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.type == "rate_limit_error"


async def test_sdk_retries_a_rate_limit_by_itself(url: str, key: str) -> None:
    async with AsyncAnthropic(api_key=key, base_url=url, max_retries=2, timeout=10) as client:
        reply = await ask(client, user(failing(status=429, retry_after=0.01, times=2)))

    assert text(reply) == "Here after all."


async def test_dropped_stream_breaks_the_connection_midway(client: AsyncAnthropic) -> None:
    question = user(failing(stream="drop"))

    with pytest.raises((anthropic.APIConnectionError, httpx2.TransportError)):
        await ask_streaming(client, question)

    assert text(await ask_streaming(client, question)) == "Here after all."


async def test_dropped_reply_breaks_the_connection_without_streaming(
    client: AsyncAnthropic,
) -> None:
    with pytest.raises((anthropic.APIConnectionError, httpx2.TransportError)):
        await ask(client, user(failing(stream="drop")))


async def test_ended_stream_stops_without_a_stop_reason(client: AsyncAnthropic) -> None:
    reply = await ask_streaming(client, user(failing(stream="end")))

    assert reply.stop_reason is None


async def test_error_event_in_a_stream_is_raised_by_the_sdk(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await ask_streaming(client, user(failing(stream="error")))

    assert caught.value.type == "overloaded_error"


async def test_hanging_stream_runs_into_the_clients_timeout(url: str, key: str) -> None:
    async with AsyncAnthropic(api_key=key, base_url=url, max_retries=0, timeout=0.3) as client:
        with pytest.raises((anthropic.APITimeoutError, httpx2.TimeoutException)):
            await ask_streaming(client, user(failing(stream="hang")))


async def test_refusal_carries_its_details(client: AsyncAnthropic) -> None:
    for how in (ask, ask_streaming):
        reply = await how(client, user("scenario: refusal"))
        assert reply.stop_reason == "refusal"
        assert reply.stop_details is not None
        assert reply.stop_details.category == "cyber"


async def test_reply_cut_off_at_the_limit_is_continued_by_the_next_step(
    client: AsyncAnthropic,
) -> None:
    question = user("scenario: max-tokens")
    first = await ask_streaming(client, question)
    second = await ask_streaming(client, question, first.to_param(), user("Go on."))

    assert first.stop_reason == "max_tokens"
    assert text(first) + text(second) == "The answer has two halves, and here is the second."


async def test_tool_input_can_be_malformed(client: AsyncAnthropic) -> None:
    cut = {"name": "bash", "input": {}, "raw_input": '{"command": "ls'}
    broken = {"name": "bash", "input": {}, "raw_input": '{"command": ]'}
    question = issue_with_script({"tools": [cut]}, {"tools": [broken]})

    first = await ask_streaming(client, user(question))
    assert [b.input for b in first.content if b.type == "tool_use"] == [{}]
    with pytest.raises(ValueError, match="Unable to parse tool parameter"):
        await ask_streaming(client, user(question), first.to_param(), results(first))


async def test_failures_are_counted_in_each_conversation_alone(client: AsyncAnthropic) -> None:
    one = user(failing(status=529, times=2) + "one")
    other = user(failing(status=529, times=1) + "other")

    with pytest.raises(anthropic.OverloadedError):
        await ask(client, one)
    with pytest.raises(anthropic.OverloadedError):
        await ask(client, other)
    with pytest.raises(anthropic.OverloadedError):
        await ask(client, one)
    assert text(await ask(client, one)) == text(await ask(client, other))


async def test_second_run_with_another_random_boundary_counts_on(client: AsyncAnthropic) -> None:
    failing_once = failing(status=529, times=1)

    with pytest.raises(anthropic.OverloadedError):
        await ask(client, user(f"<issue-{'a1' * 16}>{failing_once}"))

    assert text(await ask(client, user(f"<issue-{'b2' * 16}>{failing_once}")))


async def test_request_without_tools_gets_no_tool_calls(client: AsyncAnthropic) -> None:
    question = issue_with_script({"text": "A title", "tools": [bash("ls")]})

    reply = await client.messages.create(
        model="claude-haiku-5-5", max_tokens=10, messages=[user(question)]
    )

    assert (reply.stop_reason, text(reply)) == ("end_turn", "A title")


async def test_count_starts_again_once_the_step_succeeded(client: AsyncAnthropic) -> None:
    question = user(failing(status=529, times=1))

    for _ in range(2):
        with pytest.raises(anthropic.OverloadedError):
            await ask(client, question)
        assert text(await ask(client, question)) == "Here after all."
