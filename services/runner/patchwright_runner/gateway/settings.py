"""What a gateway is made with, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from patchwright_runner.agent.model import Patience
from patchwright_runner.agent.protocol import Budget, Usage
from patchwright_runner.gateway.intake import BODY_BYTES, BODY_SECONDS

REQUESTS = 8
"""Requests to the model at once, subagents included."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """For one attempt at one job."""

    base_url: str
    key: SecretStr
    model: str
    more_models: tuple[str, ...] = ()
    """What the operator allows besides, such as a small model for summaries."""
    any_model: bool = False
    """Whether the program may choose freely. One without a known price counts as the dearest."""
    budget: Budget = Budget()  # noqa: RUF009 - frozen
    used: Usage = Usage()  # noqa: RUF009 - frozen
    """What earlier attempts took from the budget."""
    turns: int = 0
    """Turns of earlier attempts that this one continues."""
    patience: Patience = Patience()  # noqa: RUF009 - frozen
    requests: int = REQUESTS
    body_bytes: int = BODY_BYTES
    body_seconds: float = BODY_SECONDS

    @property
    def models(self) -> tuple[str, ...]:
        """The job's own first."""
        return (self.model, *self.more_models)

    def allows(self, model: str) -> bool:
        """Whether the job may ask this model."""
        return self.any_model or model in self.models


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that was sent to the model, when it is over."""

    number: int
    """Counted from 1, in the order in which they ended."""
    model: str
    usage: Usage
    seconds: float
    status: int
    """Of the answer; 0 when none came."""
    complete: bool
    """Whether the reply came to its end."""
