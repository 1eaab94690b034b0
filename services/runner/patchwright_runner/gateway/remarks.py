"""What is logged about a program in the sandbox, which must not be able to fill our log."""

from __future__ import annotations

import logging

from patchwright_runner.agent.hidden_text import one_line

log = logging.getLogger(__name__)

MOST = 50
CHARACTERS = 300


class Remarks:
    """Each once, and not too many."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def add(self, text: str) -> None:
        """Log one line."""
        line = one_line(text, CHARACTERS)
        if line not in self._said and len(self._said) < MOST:
            self._said.add(line)
            log.info("%s", line)
