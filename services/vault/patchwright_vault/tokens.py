"""Mints installation tokens: one repository, one purpose's permissions, an hour at most.

https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import httpx2 as httpx
import jwt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from patchwright_common import telemetry
from patchwright_common.credentials import EXPIRY_MARGIN, TokenRequest
from patchwright_common.errors import Permanent, Retry
from patchwright_vault.grants import TOKEN_PERMISSIONS
from patchwright_vault.store import GITHUB_APP, GitHubApp, MissingError, Store

JWT_LIFETIME = 540
"""Seconds; GitHub refuses more than 600 and allows for no drift."""
JWT_BACKDATE = 60
"""Seconds into the past, as GitHub advises, against clocks that drift."""
LONGEST_WAIT = 3600.0
"""Seconds; GitHub's limits are by the hour, so a longer wait is a clock that is wrong."""


class _Minted(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    token: str = Field(repr=False, min_length=1)
    expires_at: AwareDatetime


class _Refused(BaseModel):
    message: str = ""


@dataclass(frozen=True)
class Token:
    """`expires_at` in seconds since the epoch."""

    value: str = field(repr=False)
    expires_at: float


def app_jwt(app: GitHubApp, now: float) -> str:
    """Prove to be the App (RS256). Raises `Permanent` when the key is not an RSA key in PEM."""
    claims = {
        "iat": int(now) - JWT_BACKDATE,
        "exp": int(now) + JWT_LIFETIME,
        "iss": app.app_id,
    }
    try:
        return jwt.encode(claims, app.private_key, algorithm="RS256")
    except (ValueError, TypeError, jwt.PyJWTError):
        raise Permanent("The App's private key is not an RSA key in PEM.") from None


class Minter:
    """Hands out tokens from memory until shortly before they expire."""

    def __init__(self, store: Store, github: httpx.AsyncClient) -> None:
        self._store = store
        self._github = github
        self._tokens: dict[tuple[str, int, int], Token] = {}
        self._locks: WeakValueDictionary[tuple[str, int, int], asyncio.Lock] = WeakValueDictionary()

    async def token(self, caller: str, request: TokenRequest) -> Token:
        """A token for `caller`'s purpose on one repository; minted once for all who wait."""
        key = (caller, request.installation_id, request.repository_id)
        # While somebody holds or awaits the lock it is kept here by them alone.
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            self._forget_old()
            if key not in self._tokens:
                with telemetry.span("mint token", attributes={"patchwright.caller": caller}):
                    minted = await self._mint(caller, request)
                self._tokens[key] = minted
                return minted
            return self._tokens[key]

    def _forget_old(self) -> None:
        """Drop what is about to expire."""
        soon = time.time() + EXPIRY_MARGIN
        for key in [k for k, token in self._tokens.items() if token.expires_at < soon]:
            del self._tokens[key]

    async def _mint(self, caller: str, request: TokenRequest) -> Token:
        try:
            app = GitHubApp.model_validate_json(await self._store.get(GITHUB_APP))
        except MissingError as missing:
            # Nobody can be told without it: the request waits until the operator is done.
            raise Retry(missing.reason) from None
        try:
            response = await self._github.post(
                f"app/installations/{request.installation_id}/access_tokens",
                headers={"Authorization": f"Bearer {app_jwt(app, time.time())}"},
                json={
                    "repository_ids": [request.repository_id],
                    "permissions": TOKEN_PERMISSIONS[caller],
                },
            )
        except httpx.HTTPError as error:
            raise Retry(f"GitHub did not answer: {type(error).__name__}") from None
        if response.status_code != httpx.codes.CREATED:
            raise _refusal(response)
        try:
            minted = _Minted.model_validate_json(response.content)
        except ValidationError:
            raise Retry("GitHub's answer could not be read") from None
        return Token(minted.token, minted.expires_at.timestamp())


def _refusal(response: httpx.Response) -> Permanent | Retry:
    """What a status means; the body is not quoted, since it may echo what was sent.

    Wrong credentials are the operator's to mend and not a fault of the request: without
    them nobody can be told on GitHub, so requests wait.
    """
    message = _message(response)
    match response.status_code:
        case 401:
            return Retry("GitHub does not accept the App's id and private key")
        case 404 if "integration" in message:
            return Retry("GitHub does not know the App's id")
        case 404:
            return Permanent("The App is not installed on this repository any more.")
        case 422:
            return Permanent(
                "The App's installation lacks a permission, or does not cover the repository."
            )
        case 403 if "suspended" in message:
            return Permanent("The App's installation is suspended.")
        case status:
            return Retry(f"GitHub answered {status} when asked for a token", after=_wait(response))


def _message(response: httpx.Response) -> str:
    try:
        return _Refused.model_validate_json(response.content).message.lower()
    except ValidationError:
        return ""


def _wait(response: httpx.Response) -> float | None:
    """Seconds that the server asks for, if it says so."""
    after = response.headers.get("retry-after", "")
    if after.isdecimal():
        return min(float(after), LONGEST_WAIT)
    reset = response.headers.get("x-ratelimit-reset", "")
    if response.headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return min(max(1.0, float(reset) - time.time()), LONGEST_WAIT)
    return None
