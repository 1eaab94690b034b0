"""A conversation with the model that stays within its window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from anthropic.types import MessageParam
from opentelemetry.trace import SpanKind

from patchwright_common.telemetry import span
from patchwright_runner.agent.context import (
    FIXED_TOKENS,
    asking_for_summary,
    begun_anew,
    can_be_begun_anew,
    estimate,
    fitted,
    without_all,
    without_images,
)
from patchwright_runner.agent.conversation import check_ending
from patchwright_runner.agent.faults import ImageRefusedError, TooLongError
from patchwright_runner.agent.model import Model, Reply
from patchwright_runner.agent.protocol import Usage
from patchwright_runner.agent.window import Window

OVERFULL = "model_context_window_exceeded"


class Dialogue:
    """The messages are the caller's to add to; asking may make them fewer."""

    def __init__(self, model: Model, window: Window, messages: Sequence[MessageParam]) -> None:
        self.messages = list(messages)
        self._model = model
        self._window = window
        self._counted = 0
        self._tokens = FIXED_TOKENS

    async def reply(self) -> Reply:
        """What the model says to the messages. Its usage holds all that was needed to get it.

        Raises TooLongError when the conversation does not fit although it was begun anew.
        """
        before = await self._fit()
        reply, usage = await self._request_or_none()
        before += usage
        if reply is None:
            before += await self._begin_anew(without_all(self.messages))
            reply = await self._request(self.messages)
        self._counted, self._tokens = len(self.messages), reply.prompt_tokens
        return replace(reply, usage=before + reply.usage)

    async def _request_or_none(self) -> tuple[Reply | None, Usage]:
        """No reply when the window did not hold it to its end; it is paid for all the same."""
        try:
            reply = await self._request(self.messages)
        except TooLongError:
            if not can_be_begun_anew(self.messages):
                raise
            return None, Usage()
        if reply.stop_reason == OVERFULL and can_be_begun_anew(self.messages):
            return None, reply.usage
        return reply, Usage()

    async def _fit(self) -> Usage:
        tokens = self._tokens + estimate(self.messages[self._counted :])
        fit = fitted(self.messages, tokens, self._window)
        if fit.too_long and can_be_begun_anew(fit.messages):
            return await self._begin_anew(fit.messages)
        self.messages = fit.messages
        return Usage()

    async def _begin_anew(self, messages: Sequence[MessageParam]) -> Usage:
        with span("compact conversation"):
            reply = await self._request(asking_for_summary(messages))
            check_ending(reply)
            self.messages = begun_anew(messages, reply.text, self._window)
            return reply.usage

    async def _request(self, messages: Sequence[MessageParam]) -> Reply:
        """Again without images when the server cannot read one: anybody can post a broken one."""
        try:
            return await self._ask(messages)
        except ImageRefusedError:
            plain = without_images(messages)
            if plain == list(messages):
                raise
            self.messages = without_images(self.messages)
            return await self._ask(plain)

    async def _ask(self, messages: Sequence[MessageParam]) -> Reply:
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": self._model.name,
            "gen_ai.request.max_tokens": self._model.max_tokens,
        }
        with span("model turn", kind=SpanKind.CLIENT, attributes=attributes) as current:
            reply = await self._model.reply(messages)
            current.set_attributes(
                {"gen_ai.response.finish_reasons": [reply.stop_reason], **spent(reply.usage)}
            )
            return reply


def spent(usage: Usage) -> dict[str, int | float]:
    """A usage as a span's attributes."""
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "patchwright.cost.dollars": usage.dollars,
    }
