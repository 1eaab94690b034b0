"""The turns of a program that reaches the model through a door, and what it spent on them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import Span

from patchwright_common.telemetry import span
from patchwright_runner.agent.limits import out_of_turns
from patchwright_runner.agent.program import ModelDoor
from patchwright_runner.agent.protocol import (
    AgentResult,
    Budget,
    Observer,
    ToolCall,
    Turn,
    Usage,
)


class Tally:
    """Counts from `turns`, and tells the observer."""

    def __init__(self, door: ModelDoor, observer: Observer, budget: Budget, turns: int) -> None:
        self.turns = turns
        self._door = door
        self._observer = observer
        self._budget = budget
        self._before = self._told = door.usage
        self._began = time.monotonic()

    @property
    def usage(self) -> Usage:
        """Since this tally began."""
        return self._door.usage - self._before

    async def turn(
        self,
        calls: Sequence[ToolCall] = (),
        transcript: Sequence[Mapping[str, Any]] = (),
        *,
        box_is_busy: bool = False,
    ) -> None:
        """One more turn; it cost what the gateway has counted since the last one.

        Raises what the observer raises, and Permanent when there are more turns than there may
        be: the gateway would not have let them happen, so somebody makes them up.
        """
        if self.turns >= self._budget.turns:
            raise out_of_turns(self._budget)
        self.turns += 1
        usage, now = self._door.usage, time.monotonic()
        spent, seconds = usage - self._told, now - self._began
        self._told, self._began = usage, now
        turn = Turn(self.turns, spent, tuple(calls), seconds, tuple(transcript), box_is_busy)
        await self._observer.turn_finished(turn)


@contextmanager
def running(agent: str, model: str) -> Iterator[Span]:
    """The span of an agent's work."""
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.agent.name": agent,
        "gen_ai.request.model": model,
    }
    with span("run agent", attributes=attributes) as current:
        yield current


def finished(current: Span, result: AgentResult) -> AgentResult:
    """`result`, noted on the span."""
    usage = result.usage
    current.set_attributes(
        {
            "patchwright.agent.turns": result.turns,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "patchwright.cost.dollars": usage.dollars,
        }
    )
    return result
