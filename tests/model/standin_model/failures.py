"""Which failure is due: each happens its number of times in a conversation, then the step succeeds.

The count starts again after the step succeeded, so a second conversation with the same text fails
in the same way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from standin_model.scenario import Failure, Step


@dataclass
class Failures:
    """How often each step of each conversation has failed so far."""

    _seen: Counter[tuple[str, int]] = field(default_factory=Counter)

    def due(self, conversation: str, number: int, step: Step) -> Failure | None:
        """The failure to play now, counted as played; None when it is the step's own turn."""
        key = (conversation, number)
        script = [failure for failure in step.failures for _ in range(failure.times)]
        if self._seen[key] >= len(script):
            del self._seen[key]
            return None
        self._seen[key] += 1
        return script[self._seen[key] - 1]
