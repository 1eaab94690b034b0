"""Who may come in: one link, good once; then the one browser that used it.

Everything here is in memory and dies with the process.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from patchwright_setup.forms import WantedApp
from patchwright_setup.vault import Finding

LINK_LIFETIME = 15 * 60.0
"""Seconds."""
SESSION_LIFETIME = 4 * 3600.0
"""Seconds; setting up takes minutes."""
SECRET_BYTES = 32


class Link(Enum):
    """What a token is worth."""

    GOOD = "good"
    USED = "used"
    OLD = "old"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Code:
    """A manifest's code: as good as the App's key until the vault has used it."""

    value: str = field(repr=False)
    api_url: str


@dataclass
class Session:
    """What one browser is doing. It ends when another one comes in by a newer link."""

    cookie: str = field(repr=False)
    csrf: str = field(repr=False)
    started: float
    suggested_name: str
    state: str = field(default="", repr=False)
    """What GitHub has to bring back; empty when nothing is under way."""
    wanted: WantedApp | None = None
    code: Code | None = None
    """Not yet in the vault for certain."""
    findings: dict[str, Finding] = field(default_factory=dict)
    """The last result of each check."""
    notice: str = ""
    """Shown once, on the next page."""
    finished: bool = False

    def begin_registration(self, wanted: WantedApp) -> None:
        """Remember what was asked for, under a state of its own."""
        self.wanted, self.state = wanted, secrets.token_urlsafe(SECRET_BYTES)

    def take_state(self, state: str) -> bool:
        """Whether GitHub brought back the state. It is good once."""
        if not self.state or not _same(self.state, state):
            return False
        self.state = ""
        return True

    def take_notice(self) -> str:
        """The notice, which is then gone."""
        notice, self.notice = self.notice, ""
        return notice


class Door:
    """`clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._token = ""
        self._made = 0.0
        self._used = False
        self._session: Session | None = None

    def new_link(self) -> str:
        """A token; the one before it is worth nothing any more, the session goes on."""
        self._token = secrets.token_urlsafe(SECRET_BYTES)
        self._made, self._used = self._clock(), False
        return self._token

    def look(self, token: str) -> Link:
        """Without using it: programs that preview links must not burn it."""
        if not self._token or not _same(self._token, token):
            return Link.UNKNOWN
        if self._used:
            return Link.USED
        return Link.OLD if self._clock() > self._made + LINK_LIFETIME else Link.GOOD

    def enter(self, token: str) -> Session | None:
        """Burn the token for a session, which ends the one before it and goes on with its code."""
        if self.look(token) is not Link.GOOD:
            return None
        self._used = True
        before = self._session
        self._session = Session(
            cookie=secrets.token_urlsafe(SECRET_BYTES),
            csrf=secrets.token_urlsafe(SECRET_BYTES),
            started=self._clock(),
            suggested_name=f"patchwright-{secrets.token_hex(2)}",
            wanted=before.wanted if before else None,
            code=before.code if before else None,
        )
        return self._session

    def session(self, cookie: str) -> Session | None:
        """The session of that browser, if it is the one."""
        found = self._session
        if found is None or not _same(found.cookie, cookie):
            return None
        if self._clock() > found.started + SESSION_LIFETIME:
            self._session = None
            return None
        return found


def same_token(session: Session, csrf: str) -> bool:
    """Whether a form came from one of our own pages."""
    return _same(session.csrf, csrf)


def _same(held: str, given: str) -> bool:
    return secrets.compare_digest(held.encode(), given.encode())
