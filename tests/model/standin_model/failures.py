"""Which failure is due: each happens its number of times in a conversation, then the step succeeds.

The count starts again after the step succeeded, so a second conversation with the same text fails
in the same way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from standin_model.scenario import Failure, Step


@dataclass
class _Played:
    """What of a step's failures is over, and how far the next one is."""

    over: int = 0
    times: int = 0
    since: float | None = None


@dataclass
class Failures:
    """How far each step of each conversation has got in its failures so far."""

    _played: dict[tuple[str, int], _Played] = field(default_factory=dict)

    def due(self, conversation: str, number: int, step: Step) -> Failure | None:
        """The failure to play now, counted as played; None when it is the step's own turn."""
        played = self._played.setdefault((conversation, number), _Played())
        for failure in step.failures[played.over :]:
            if self._goes_on(failure, played):
                played.times += 1
                return failure
            played.over, played.times, played.since = played.over + 1, 0, None
        del self._played[conversation, number]
        return None

    def _goes_on(self, failure: Failure, played: _Played) -> bool:
        if not failure.seconds:
            return played.times < failure.times
        if played.since is None:
            played.since = time.monotonic()
        return time.monotonic() - played.since < failure.seconds
