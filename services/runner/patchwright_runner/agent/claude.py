"""The `claude` agent: our own loop around Anthropic's Messages API.

The loop and the key stay in the runner; only tool calls enter the sandbox. The whole conversation
is in our hands and goes with every request (no server-side threads), so that it can be kept,
replayed and resumed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from anthropic import AsyncAnthropic, Timeout
from anthropic.types import MessageParam
from pydantic import SecretStr

from patchwright_common.telemetry import span
from patchwright_runner.agent.conversation import (
    COMPLETE,
    check_ending,
    continuation,
    has_ended,
    last_words,
    user_message,
)
from patchwright_runner.agent.dialogue import Dialogue, spent
from patchwright_runner.agent.limits import check, out_of_time, out_of_turns
from patchwright_runner.agent.model import Model, Patience, Reply
from patchwright_runner.agent.prompt import SYSTEM, opening_message
from patchwright_runner.agent.protocol import (
    AgentResult,
    Budget,
    Checkpoint,
    Observer,
    Task,
    Turn,
    Usage,
)
from patchwright_runner.agent.tools import COMMAND_SECONDS, Outcome, Toolbox, not_executed
from patchwright_runner.agent.window import Window, window_of
from patchwright_runner.sandbox.protocol import Sandbox
from patchwright_runner.settings import BASE_URL, DEFAULT_MODEL

MAX_TOKENS = 32_000
"""Of one reply, thinking included."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one call of the agent works with."""

    dialogue: Dialogue
    toolbox: Toolbox
    observer: Observer


class ClaudeAgent:
    """Made for one job. `used` is what earlier attempts at it took from the budget.

    `window` in tokens makes conversations shorter than the model could hold.
    """

    def __init__(
        self,
        *,
        api_key: SecretStr,
        model: str = DEFAULT_MODEL,
        base_url: str = BASE_URL,
        max_tokens: int = MAX_TOKENS,
        window: int | None = None,
        budget: Budget = Budget(),  # noqa: B008 - frozen
        used: Usage = Usage(),  # noqa: B008 - frozen
        patience: Patience = Patience(),  # noqa: B008 - frozen
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        self._key = api_key
        self._name = model
        self._base_url = base_url
        self._max_tokens = max_tokens
        self._window = Window(min(window or sys.maxsize, window_of(model)), max_tokens)
        self._budget = budget
        self._used = used
        self._patience = patience
        self._command_seconds = command_seconds
        self._worked = 0.0
        self._used_before = used

    @property
    def used(self) -> Usage:
        """See Agent.used."""
        return self._used - self._used_before

    async def work(
        self,
        task: Task,
        sandbox: Sandbox,
        observer: Observer,
        *,
        resume: Checkpoint | None = None,
        feedback: str = "",
    ) -> AgentResult:
        """See Agent.work. Called again, it goes on with what is left of the budget."""
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.agent.name": "claude",
            "gen_ai.request.model": self._name,
        }
        messages = _beginning(task, resume, feedback)
        turns = resume.turns if resume else 0
        with span("run agent", attributes=attributes) as current:
            async with self._time_limit(), self._model() as model:
                dialogue = Dialogue(model, self._window, messages)
                job = Work(dialogue, Toolbox(sandbox, self._command_seconds), observer)
                result = await self._converse(job, turns)
            current.set_attributes({"patchwright.agent.turns": result.turns, **spent(result.usage)})
            return result

    async def _converse(self, job: Work, turns: int) -> AgentResult:
        usage = Usage()
        while not has_ended(job.dialogue.messages):
            if turns >= self._budget.turns:
                raise out_of_turns(self._budget)
            check(self._budget, self._used)
            turns += 1
            turn, reply = await self._take_turn(job, turns)
            usage += turn.usage
            await job.observer.turn_finished(turn)
            check_ending(reply)
        messages = job.dialogue.messages
        return AgentResult(last_words(messages), usage, turns, messages)

    async def _take_turn(self, job: Work, number: int) -> tuple[Turn, Reply]:
        """Puts the reply, and what the model is told next, into the conversation."""
        started = time.monotonic()
        reply = await job.dialogue.reply()
        self._used += reply.usage
        outcomes = await _execute(job.toolbox, reply)
        messages = job.dialogue.messages
        messages += continuation(messages, reply, outcomes)
        calls = tuple(outcome.call for outcome in outcomes)
        seconds = time.monotonic() - started
        return Turn(number, reply.usage, calls, seconds, tuple(messages)), reply

    @asynccontextmanager
    async def _time_limit(self) -> AsyncIterator[None]:
        """The budget's seconds, less those of earlier calls."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._budget.seconds - self._worked) as clock:
                yield
        except TimeoutError:
            if clock.expired():
                raise out_of_time(self._budget) from None
            raise
        finally:
            self._worked += time.monotonic() - started

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


def _beginning(task: Task, resume: Checkpoint | None, feedback: str) -> list[MessageParam]:
    messages = [cast(MessageParam, message) for message in resume.transcript] if resume else []
    if not messages:
        messages.append(opening_message(task))
    if feedback:
        messages.append(user_message(feedback))
    return messages


async def _execute(toolbox: Toolbox, reply: Reply) -> list[Outcome]:
    """In the order in which the model asked, as the later ones may build on the earlier."""
    if reply.stop_reason in COMPLETE:
        return [await toolbox.call(use) for use in reply.uses]
    return [not_executed(use) for use in reply.uses]
