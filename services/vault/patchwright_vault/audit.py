"""Who got what, for which job: an event for every grant and every refusal, never a value.

What changes something (`Verb.changes`) is recorded before it takes effect: its grant says
that it was asked for and allowed. A refusal after it says that it did not happen; with
neither a refusal nor a change, it was tried and failed.

A request that cannot be read has no event, only a line in the log: it names no job that
could be believed, and whoever sends junk shall not fill the stream.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from patchwright_common.bus import Bus
from patchwright_common.events import NO_JOB, GrantGiven, GrantRefused
from patchwright_common.flow import GRANT_GIVEN, GRANT_REFUSED

REASON_LIMIT = 500
"""Characters."""


@dataclass(frozen=True)
class Ask:
    """A request as the verbs see it: who, for what, for which job, with which words."""

    caller: str
    verb: str
    job_id: str
    nonce: str
    body: bytes = field(repr=False)
    sealed: bool = False
    """Whether only the vault could read the words."""


@dataclass(frozen=True)
class Grant:
    """What a verb gives, and what the audit may tell of it."""

    value: str = field(default="", repr=False)
    expires_at: float = 0.0
    """Seconds since the epoch; 0 for what does not expire."""
    repository_id: int = 0
    permissions: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""


class _Asked(BaseModel):
    repository_id: int = 0


class Audit:
    """Writes the events. Raises `Retry` when they cannot be stored: then nothing is granted.

    Their message ids are the vault's own: with the asker's nonce in them, one that used it
    twice would have its second event dropped as a repetition. Each event's `traceparent`
    is of the trace in which was asked.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def given(self, ask: Ask, grant: Grant) -> None:
        """Before the answer leaves, and before anything is changed."""
        event = GrantGiven(
            job_id=ask.job_id or NO_JOB,
            caller=ask.caller,
            verb=ask.verb,
            repository_id=grant.repository_id,
            permissions=grant.permissions,
            fingerprint=grant.fingerprint,
        )
        await self._bus.emit(GRANT_GIVEN, event, step=f"given:{secrets.token_hex(16)}")

    async def refused(self, ask: Ask, reason: str) -> None:
        """With the reason that the asker is told."""
        event = GrantRefused(
            job_id=ask.job_id or NO_JOB,
            caller=ask.caller,
            verb=ask.verb,
            reason=reason[:REASON_LIMIT],
            repository_id=_asked_repository(ask),
        )
        await self._bus.emit(GRANT_REFUSED, event, step=f"refused:{secrets.token_hex(16)}")


def _asked_repository(ask: Ask) -> int:
    """What the asker wanted a token for, as far as that can be read."""
    if ask.verb != "token":
        return 0
    try:
        return _Asked.model_validate_json(ask.body).repository_id
    except ValidationError:
        return 0
