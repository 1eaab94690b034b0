"""What a user is told when an agent reaches the end of its budget."""

from __future__ import annotations

from patchwright_common.errors import Permanent
from patchwright_runner.agent.protocol import Budget, Usage

ADVICE = "Ask for a smaller part of the work, or let the operator raise the budget."


def check(budget: Budget, usage: Usage) -> None:
    """Raises Permanent when there is nothing left for another turn."""
    if usage.tokens >= budget.tokens:
        raise _stopped(f"{budget.tokens:,} tokens")
    if usage.dollars >= budget.dollars:
        raise _stopped(f"${budget.dollars:.2f}")


def out_of_turns(budget: Budget) -> Permanent:
    """For an agent that is not done after its last turn."""
    return _stopped(f"{budget.turns} turns")


def out_of_time(budget: Budget) -> Permanent:
    """For an agent that was stopped in the middle of something."""
    minutes, seconds = divmod(round(budget.seconds), 60)
    return _stopped(f"{minutes} minutes" if minutes and not seconds else f"{budget.seconds:g} s")


def _stopped(what: str) -> Permanent:
    return Permanent(f"The agent used its budget of {what} without finishing.", advice=ADVICE)
