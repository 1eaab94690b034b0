"""The `claude` agent: our own loop around Anthropic's Messages API.

The loop and the key stay in the runner; only tool calls enter the sandbox. The whole conversation
is in our hands and goes with every request (no server-side threads), so that it can be kept,
replayed and resumed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from anthropic import AsyncAnthropic, Timeout
from anthropic.types import MessageParam
from opentelemetry.trace import SpanKind
from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_common.telemetry import span
from patchwright_runner.agent.limits import check, out_of_time, out_of_turns
from patchwright_runner.agent.model import Model, Patience, Reply
from patchwright_runner.agent.prompt import SYSTEM, opening_message
from patchwright_runner.agent.protocol import AgentResult, Budget, Observer, Task, Turn, Usage
from patchwright_runner.agent.tools import COMMAND_SECONDS, Outcome, Toolbox, not_executed
from patchwright_runner.sandbox.protocol import Sandbox

BASE_URL = "https://api.anthropic.com"
DEFAULT_MODEL = "claude-opus-5-5"
MAX_TOKENS = 32_000
"""Of one reply, thinking included."""
GO_ON = "Your reply reached the output limit. Go on exactly where it ended."
SAY_SOMETHING = "Finish now with your final message, as described at the beginning."


class ClaudeAgent:
    """Made for one job. `used` is what earlier attempts at it took from the budget."""

    def __init__(
        self,
        *,
        api_key: SecretStr,
        model: str = DEFAULT_MODEL,
        base_url: str = BASE_URL,
        max_tokens: int = MAX_TOKENS,
        budget: Budget = Budget(),  # noqa: B008 - frozen
        used: Usage = Usage(),  # noqa: B008 - frozen
        patience: Patience = Patience(),  # noqa: B008 - frozen
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        self._key = api_key
        self._name = model
        self._base_url = base_url
        self._max_tokens = max_tokens
        self._budget = budget
        self._used = used
        self._patience = patience
        self._command_seconds = command_seconds

    async def work(self, task: Task, sandbox: Sandbox, observer: Observer) -> AgentResult:
        """See Agent.work."""
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.agent.name": "claude",
            "gen_ai.request.model": self._name,
        }
        toolbox = Toolbox(sandbox, self._command_seconds)
        with span("run agent", attributes=attributes) as current:
            async with self._model() as model:
                try:
                    async with asyncio.timeout(self._budget.seconds) as clock:
                        result = await self._converse(model, toolbox, task, observer)
                except TimeoutError:
                    if clock.expired():
                        raise out_of_time(self._budget) from None
                    raise
            current.set_attributes(
                {"patchwright.agent.turns": result.turns, **_spent(result.usage)}
            )
            return result

    async def _converse(
        self, model: Model, toolbox: Toolbox, task: Task, observer: Observer
    ) -> AgentResult:
        messages: list[MessageParam] = [opening_message(task)]
        usage = Usage()
        said = ""
        for number in range(1, self._budget.turns + 1):
            check(self._budget, self._used + usage)
            started = time.monotonic()
            reply = await self._ask(model, messages)
            outcomes = await _execute(toolbox, reply)
            usage += reply.usage
            calls = tuple(outcome.call for outcome in outcomes)
            await observer.turn_finished(
                Turn(number, reply.usage, calls, time.monotonic() - started)
            )
            if reply.content:
                messages.append({"role": "assistant", "content": cast(Any, reply.content)})
            said = "" if outcomes else said + reply.text
            answer = _answer(reply, outcomes, said)
            if answer is None:
                return AgentResult(said.strip(), usage, number, messages)
            messages.append(answer)
        raise out_of_turns(self._budget)

    async def _ask(self, model: Model, messages: Sequence[MessageParam]) -> Reply:
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": self._name,
            "gen_ai.request.max_tokens": self._max_tokens,
        }
        with span("model turn", kind=SpanKind.CLIENT, attributes=attributes) as current:
            reply = await model.reply(messages)
            current.set_attributes(
                {"gen_ai.response.finish_reasons": [reply.stop_reason], **_spent(reply.usage)}
            )
            return reply

    @asynccontextmanager
    async def _model(self) -> AsyncIterator[Model]:
        # Retries are ours alone, because the SDK waits for as long as a server tells it to. So are
        # the spans, and trace headers do not leave the house.
        key = self._key.get_secret_value()
        async with AsyncAnthropic(
            api_key=key,
            base_url=self._base_url,
            max_retries=0,
            timeout=Timeout(self._patience.silence, connect=self._patience.connect),
            open_telemetry=False,
        ) as client:
            yield Model(
                client,
                name=self._name,
                key=key,
                max_tokens=self._max_tokens,
                system=SYSTEM,
                patience=self._patience,
            )


async def _execute(toolbox: Toolbox, reply: Reply) -> list[Outcome]:
    """In the order in which the model asked, as the later ones may build on the earlier."""
    if reply.stop_reason == "max_tokens":
        return [not_executed(use) for use in reply.uses]
    return [await toolbox.call(use) for use in reply.uses]


def _answer(reply: Reply, outcomes: Sequence[Outcome], said: str) -> MessageParam | None:
    """What the model is told next; None when it has finished. Raises Permanent when it cannot."""
    if reply.stop_reason == "refusal":
        category = f" (category: {reply.refusal})" if reply.refusal else ""
        raise Permanent(
            f"The model declined to work on this issue{category}.",
            advice="Put the issue in other words, or choose another model.",
        )
    if reply.stop_reason == "model_context_window_exceeded":
        raise Permanent(
            "The conversation no longer fits into the model's context window.",
            advice="Ask for a smaller part of the work.",
        )
    if outcomes:
        return {"role": "user", "content": [outcome.result for outcome in outcomes]}
    if reply.stop_reason == "max_tokens":
        return {"role": "user", "content": [{"type": "text", "text": GO_ON}]}
    if not said.strip():
        return {"role": "user", "content": [{"type": "text", "text": SAY_SOMETHING}]}
    return None


def _spent(usage: Usage) -> dict[str, int | float]:
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "patchwright.cost.dollars": usage.dollars,
    }
