"""One reply of the model: streamed, tried again in place, priced."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anthropic
from anthropic import AsyncAnthropic
from anthropic.types import Message, MessageParam

from patchwright_common.errors import Retry
from patchwright_runner.agent.cache_marks import marked_system, with_marks
from patchwright_runner.agent.faults import BROKEN_REPLY, Again, judge
from patchwright_runner.agent.prices import priced
from patchwright_runner.agent.protocol import Usage
from patchwright_runner.agent.tools import TOOLS, ToolUse


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the model, in seconds, before the job goes back to the queue."""

    tries: int = 4
    first_wait: float = 1.0
    """Doubled for each further try, unless the server says how long."""
    longest_wait: float = 30.0
    """A server that asks for more is not waited for in place."""
    connect: float = 10.0
    silence: float = 90.0
    """Between two pieces of a stream; the server sends pings when it has nothing to say."""
    reply: float = 900.0
    """For one whole reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, ready to go on from."""

    content: Sequence[dict[str, Any]]
    """The blocks as they are sent back, thinking included and empty texts left out."""
    text: str
    uses: tuple[ToolUse, ...]
    stop_reason: str
    refusal: str
    """The category of a refusal, if the server gave one."""
    prompt_tokens: int
    """What was asked, as the server counted it."""
    usage: Usage
    """Of this reply and of the tries that broke off before it."""


class Interrupted(Exception):
    """A try that did not get to its end."""

    def __init__(self, cause: Exception, usage: Usage) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause
        self.usage = usage


class Model:
    """A model behind a client, asked with the whole conversation each time."""

    def __init__(
        self,
        client: AsyncAnthropic,
        *,
        name: str,
        key: str,
        max_tokens: int,
        system: str,
        patience: Patience,
    ) -> None:
        self._client = client
        self.name = name
        self._key = key
        self.max_tokens = max_tokens
        self._system = marked_system(system)
        self._patience = patience

    async def reply(self, messages: Sequence[MessageParam]) -> Reply:
        """Raises Retry when the tries are used up, Permanent when they would not help."""
        wasted = Usage()
        number = 0
        while True:
            number += 1
            try:
                return self._read(await self._try(messages), wasted)
            except Interrupted as interrupted:
                wasted += interrupted.usage
                fault = judge(interrupted.cause, model=self.name, key=self._key)
            await self._wait(number, fault)

    async def _try(self, messages: Sequence[MessageParam]) -> Message:
        started = Usage()
        try:
            async with (
                asyncio.timeout(self._patience.reply),
                self._client.messages.stream(
                    model=self.name,
                    max_tokens=self.max_tokens,
                    system=self._system,
                    messages=with_marks(messages),
                    tools=TOOLS,
                ) as stream,
            ):
                async for event in stream:
                    if event.type == "message_start":
                        started = self._usage(event.message)
                message = await stream.get_final_message()
        except BROKEN_REPLY as error:
            raise Interrupted(error, started) from None
        if message.stop_reason is None:
            raise Interrupted(EOFError("no end of the message"), started)
        return message

    async def _wait(self, number: int, fault: Again) -> None:
        usual = self._patience.first_wait * 2 ** (number - 1) * random.uniform(0.75, 1)  # noqa: S311 - spreads load only
        wait = usual if fault.after is None else fault.after
        last = number == self._patience.tries or not fault.in_place
        if last or wait > self._patience.longest_wait:
            raise Retry(f"{fault.reason}, {number} times in a row", after=fault.after)
        await asyncio.sleep(wait)

    def _read(self, message: Message, wasted: Usage) -> Reply:
        uses = [block for block in message.content if block.type == "tool_use"]
        usage = self._usage(message)
        return Reply(
            content=[kept for block in message.content if (kept := _sendable(block))],
            text="".join(block.text for block in message.content if block.type == "text"),
            uses=tuple(ToolUse(use.id, use.name, use.input) for use in uses),
            stop_reason=str(message.stop_reason),
            refusal=str(message.stop_details.category or "") if message.stop_details else "",
            prompt_tokens=usage.tokens - usage.output_tokens,
            usage=wasted + usage,
        )

    def _usage(self, message: Message) -> Usage:
        counted = message.usage
        return priced(
            self.name,
            Usage(
                input_tokens=counted.input_tokens,
                output_tokens=counted.output_tokens,
                cache_read_tokens=counted.cache_read_input_tokens or 0,
                cache_write_tokens=counted.cache_creation_input_tokens or 0,
            ),
        )


def _sendable(block: anthropic.types.ContentBlock) -> dict[str, Any] | None:
    """A block as the API takes it back; it refuses blank texts and inputs that are no objects."""
    fields = block.to_dict(mode="json", exclude_none=True, warnings=False)
    if block.type == "text" and not block.text.strip():
        return None
    if block.type == "tool_use" and not isinstance(block.input, dict):
        fields["input"] = {}
    return fields
