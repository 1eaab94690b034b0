"""Names the places where a process has just done something outside, for tests that kill it there.

In production nothing listens: nothing that a service reads (no setting, no environment
variable, no message) makes it listen, and only code in the process itself could add an audit
hook (https://docs.python.org/3/library/sys.html#sys.audit). `tests/harness/harness/armed.py`
does, and `tests/system/test_every_step.py` finds the names in the code.
"""

from __future__ import annotations

import sys

EVENT = "patchwright.step"
"""The audit event; its one argument is the step's name."""


def reached(step: str) -> None:
    """An effect is outside, and nothing of what follows has happened. A literal name, please."""
    sys.audit(EVENT, step)
