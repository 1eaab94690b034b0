"""The tokens that this vault minted and GitHub may still accept: in memory alone.

A token that is not handed out any more (about to expire, refused once) is still held
until it is revoked or expired, so that its job's end can end it too.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from patchwright_common.credentials import EXPIRY_MARGIN


@dataclass(frozen=True)
class Purpose:
    """Whose token it is, for which job on which repository. No two purposes share a token."""

    caller: str
    job_id: str
    """Empty for triage, which asks before there is a job."""
    installation_id: int
    repository_id: int


@dataclass(frozen=True)
class Token:
    """`expires_at` in seconds since the epoch; `api_url` is the GitHub that takes it."""

    value: str = field(repr=False)
    expires_at: float
    api_url: str

    @property
    def digest(self) -> str:
        """SHA-256 in hex, by which it is named without being shown."""
        return hashlib.sha256(self.value.encode()).hexdigest()


@dataclass
class Held:
    """A token with what decides over its end."""

    purpose: Purpose
    token: Token
    handed_at: float
    """When it was last given to somebody; `time.monotonic`."""


class Holdings:
    """Nothing here waits: each method is one step on the event loop."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._current: dict[Purpose, str] = {}

    def current(self, purpose: Purpose) -> Token | None:
        """The token to hand out, unless it is about to expire."""
        held = self._held.get(self._current.get(purpose, ""))
        if held is None or held.token.expires_at < time.time() + EXPIRY_MARGIN:
            self._current.pop(purpose, None)
            return None
        held.handed_at = time.monotonic()
        return held.token

    def add(self, purpose: Purpose, token: Token) -> None:
        """A token that was just minted; it is the current one from now on."""
        self._held[token.digest] = Held(purpose, token, time.monotonic())
        self._current[purpose] = token.digest

    def retire(self, held: Iterable[Held]) -> None:
        """Hand these out no more. They are still held."""
        for one in held:
            if self._current.get(one.purpose) == one.token.digest:
                del self._current[one.purpose]

    def drop(self, held: Iterable[Held]) -> None:
        """GitHub does not accept these any more."""
        gone = list(held)
        self.retire(gone)
        for one in gone:
            self._held.pop(one.token.digest, None)

    def drop_expired(self) -> None:
        """They ended by themselves."""
        now = time.time()
        self.drop([one for one in self._held.values() if one.token.expires_at < now])

    def jobs(self) -> set[str]:
        """Those for which something is held."""
        return {one.purpose.job_id for one in self._held.values()} - {""}

    def of_purpose(self, purpose: Purpose) -> list[Held]:
        """All that is held for it, retired ones too."""
        return [one for one in self._held.values() if one.purpose == purpose]

    def of_job(self, job_id: str) -> list[Held]:
        """For whatever purpose."""
        return [one for one in self._held.values() if one.purpose.job_id == job_id]

    def of_installation(self, installation_id: int) -> list[Held]:
        """For whatever job."""
        return [
            one for one in self._held.values() if one.purpose.installation_id == installation_id
        ]

    def everything(self) -> list[Held]:
        """All that is held."""
        return list(self._held.values())
