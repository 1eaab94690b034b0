"""The prompt cache, as the SDK sees it in a reply's usage."""

from __future__ import annotations

from typing import Any

from anthropic import AsyncAnthropic
from anthropic.types import Usage

from standin_model.scripting import issue_with_script

from .asking import BASH, MODEL, user

SCRIPT = issue_with_script({"text": "Yes."}, loop=True)
LONG = "All work and no play makes Jack a dull boy. " * 60
MARK = {"cache_control": {"type": "ephemeral"}}
SAID = {"role": "assistant", "content": "Yes."}


def text(words: str, *, marked: bool = False) -> dict[str, Any]:
    return {"type": "text", "text": words, **(MARK if marked else {})}


async def usage(client: AsyncAnthropic, *messages: Any, system: str = "Be kind.") -> Usage:
    reply = await client.messages.create(
        model=MODEL, max_tokens=1000, messages=messages, system=system, tools=[BASH]
    )
    return reply.usage


async def test_marked_prefix_is_read_by_the_next_request(client: AsyncAnthropic) -> None:
    opening = text(SCRIPT + LONG, marked=True)

    first = await usage(client, user([opening, text("Not marked.")]))
    second = await usage(client, user([opening]), SAID, user([text("More " * 99, marked=True)]))

    assert first.cache_read_input_tokens == 0
    assert first.cache_creation_input_tokens
    assert 0 < first.input_tokens < 20
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens
    assert second.cache_creation_input_tokens
    assert second.cache_creation_input_tokens > 100
    assert second.input_tokens == 0


async def test_mark_may_move_on(client: AsyncAnthropic) -> None:
    first = await usage(client, user([text(SCRIPT + LONG, marked=True)]))
    second = await usage(client, user([text(SCRIPT + LONG)]), SAID, user([text("?", marked=True)]))

    assert second.cache_read_input_tokens == first.cache_creation_input_tokens


async def test_prompt_without_a_mark_is_not_cached(client: AsyncAnthropic) -> None:
    await usage(client, user([text(SCRIPT + LONG)]))
    again = await usage(client, user([text(SCRIPT + LONG)]))

    assert (again.cache_read_input_tokens, again.cache_creation_input_tokens) == (0, 0)


async def test_changed_beginning_is_written_anew(client: AsyncAnthropic) -> None:
    message = user([text(SCRIPT + LONG, marked=True)])

    await usage(client, message)
    changed = await usage(client, message, system="Be brief.")

    assert changed.cache_read_input_tokens == 0
    assert changed.cache_creation_input_tokens


async def test_mark_finds_a_prefix_within_twenty_blocks_only(client: AsyncAnthropic) -> None:
    opening = text(SCRIPT + LONG, marked=True)
    await usage(client, user([opening]))

    async def read_behind(blocks: int) -> int | None:
        more = [*[text("and")] * (blocks - 1), text("end", marked=True)]
        return (await usage(client, user([text(SCRIPT + LONG), *more]))).cache_read_input_tokens

    assert await read_behind(20) == 0
    assert await read_behind(19)


async def test_short_prompt_is_not_cached(client: AsyncAnthropic) -> None:
    for _ in range(2):
        short = await usage(client, user([text(SCRIPT, marked=True)]))

    assert (short.cache_read_input_tokens, short.cache_creation_input_tokens) == (0, 0)
