"""Mints installation tokens: one repository, one purpose's permissions, an hour at most.

https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from patchwright_common import telemetry
from patchwright_common.errors import NotInstalled, Permanent, Retry
from patchwright_vault.app import AppClient, message_of
from patchwright_vault.grants import TOKEN_PERMISSIONS
from patchwright_vault.holdings import Holdings, Purpose, Token

if TYPE_CHECKING:
    from patchwright_vault.fetching import Answer

REPLACEMENT_INTERVAL = 5.0
"""Seconds between two tokens that are minted for a purpose because the last one was refused:
an asker that calls every token bad must not use up the App's rate limit."""
REMEMBERED = 4096
"""Purposes of which the last replacement is known."""


class _Minted(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    token: str = Field(repr=False, min_length=1)
    expires_at: AwareDatetime


class Minter:
    """Hands out tokens from memory until shortly before they expire."""

    def __init__(self, app: AppClient, holdings: Holdings) -> None:
        self._app = app
        self._holdings = holdings
        self._replaced: dict[Purpose, float] = {}
        self._locks: WeakValueDictionary[Purpose, asyncio.Lock] = WeakValueDictionary()
        self._closed = False

    async def token(self, purpose: Purpose, *, refused: str = "") -> Token:
        """A token for this purpose; minted once for all who wait.

        `refused` is the SHA-256 of one that GitHub did not accept: it is replaced.
        """
        # While somebody holds or awaits the lock it is kept here by them alone.
        lock = self._locks.setdefault(purpose, asyncio.Lock())
        async with lock:
            if self._closed:
                raise Retry("this vault is stopping")
            token = self._holdings.current(purpose)
            if token is not None and token.digest == refused:
                self._replace(purpose)
                token = None
            if token is None:
                with telemetry.span(
                    "mint token", attributes={"patchwright.caller": purpose.caller}
                ):
                    token = await self._mint(purpose)
                self._holdings.add(purpose, token)
            return token

    def close(self) -> None:
        """Hand out nothing more: what is held is about to be revoked."""
        self._closed = True

    def _replace(self, purpose: Purpose) -> None:
        """Raises `Retry` when it was replaced a moment ago."""
        now = time.monotonic()
        again = self._replaced.get(purpose, -REPLACEMENT_INTERVAL) + REPLACEMENT_INTERVAL
        if now < again:
            raise Retry("GitHub refused a token that is new", after=again - now)
        self._replaced.pop(purpose, None)
        self._replaced[purpose] = now
        while len(self._replaced) > REMEMBERED:
            del self._replaced[next(iter(self._replaced))]
        self._holdings.retire(self._holdings.of_purpose(purpose))

    async def _mint(self, purpose: Purpose) -> Token:
        app = await self._app.app()
        answer = await self._app.request_of(
            app,
            "POST",
            f"app/installations/{purpose.installation_id}/access_tokens",
            {
                "repository_ids": [purpose.repository_id],
                "permissions": TOKEN_PERMISSIONS[purpose.caller],
            },
        )
        if answer.status != 201:
            raise _refusal(answer)
        try:
            minted = _Minted.model_validate_json(answer.body)
        except ValidationError:
            raise Retry("GitHub's answer could not be read") from None
        return Token(minted.token, minted.expires_at.timestamp(), app.api_url)


def _refusal(answer: Answer) -> Permanent | Retry:
    """What a status means; the body is not quoted, since it may echo what was sent."""
    match answer.status:
        case 404:
            return NotInstalled("The App is not installed on this repository any more.")
        case 422 if "not accessible to the parent installation" in message_of(answer):
            return NotInstalled("The App's installation does not cover this repository any more.")
        case 422:
            return Permanent("The App's installation lacks a permission.")
        case 403 if "suspended" in message_of(answer):
            return Permanent("The App's installation is suspended.")
        case status:
            return Retry(f"GitHub answered {status} when asked for a token")
