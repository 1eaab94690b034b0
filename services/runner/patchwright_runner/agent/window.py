"""How much of a conversation a model can take, and when it has to become shorter.

Sources: each model's page under https://platform.claude.com/docs/en/models/, read for October
2026, and `max_input_tokens` of `GET /v1/models/{name}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from patchwright_runner.agent.prices import DATED

MILLION = 1_000_000
USUAL = 200_000
"""Tokens that every current model takes at least."""
WINDOWS: Mapping[str, int] = {
    "claude-fable-5-1": MILLION,
    "claude-fable-5": MILLION,
    "claude-opus-5-5": MILLION,
    "claude-opus-5": MILLION,
    "claude-sonnet-5-5": MILLION,
    "claude-sonnet-5": MILLION,
}


@dataclass(frozen=True, slots=True)
class Window:
    """A model's context window in tokens, and what of it is kept free for a reply."""

    tokens: int
    reply: int

    @property
    def room(self) -> int:
        """For the prompt."""
        return self.tokens - min(self.reply, self.tokens // 4)

    @property
    def trim_above(self) -> int:
        """From here on old outputs are left out, if `step` tokens can be won."""
        return self.room * 3 // 4

    @property
    def trim_to(self) -> int:
        """Far below, because each time the prompt is written to the cache anew."""
        return self.room * 2 // 5

    @property
    def step(self) -> int:
        """Less than this is not worth losing the cached prompt for."""
        return self.room // 5

    @property
    def compact_above(self) -> int:
        """From here on only a summary helps. Its request has to fit in as well."""
        return self.room * 9 // 10

    @property
    def turns(self) -> int:
        """What the last turns may take of a conversation that begins anew."""
        return self.room // 4


def window_of(model: str) -> int:
    """Tokens; the usual window for a model that is not known here."""
    return WINDOWS.get(DATED.sub("", model), USUAL)
