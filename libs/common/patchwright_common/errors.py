"""The errors that choose a delivery's fate. Everything else is treated as `Retry`.

PatchwrightError
├── Retry        try again later: nothing is wrong with the message
├── Permanent    never try again: dead letter, then tell the user
│   └── NotInstalled    whom nobody can tell: the App has no access any more
└── Overtaken    someone else owns the job now: stop without a trace
"""

from __future__ import annotations


class PatchwrightError(Exception):
    """Root of every error that Patchwright raises on purpose."""


class Retry(PatchwrightError):
    """The attempt failed for a reason that time may cure.

    `after` is in seconds and overrides the route's policy, for a server that
    said when to come back (`Retry-After`).
    """

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Permanent(PatchwrightError):
    """No later attempt can succeed.

    `reason` is shown to the user on GitHub, so it is a sentence for a
    maintainer and holds no secret. `advice` says what they can do next.
    `details` are shown with it, but kept out of logs and traces: what a
    private repository's own programs printed.
    """

    def __init__(self, reason: str, *, advice: str = "", details: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.details = details


class NotInstalled(Permanent):
    """GitHub lets the App no more into the repository, so nobody there can be told either."""


class Overtaken(PatchwrightError):
    """A newer epoch owns this job; its owner acknowledges, we touch nothing."""
