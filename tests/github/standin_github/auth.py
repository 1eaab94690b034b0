"""Who is asking: App JWTs truly verified, installation and personal tokens looked up."""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from typing import Any

import jwt

from standin_github.errors import ApiError, bad_credentials, suspended
from standin_github.records import Account, App, Installation, InstallationToken
from standin_github.state import State

JWT_LIFETIME = 600
"""Seconds; GitHub refuses an `exp` further away."""


@dataclass(frozen=True, slots=True)
class Anonymous:
    name: str = "anonymous"


@dataclass(frozen=True, slots=True)
class AppCaller:
    app: App

    @property
    def name(self) -> str:
        return f"app:{self.app.slug}"


@dataclass(frozen=True, slots=True)
class InstallationCaller:
    app: App
    installation: Installation
    token: InstallationToken
    bot: Account

    @property
    def name(self) -> str:
        return self.bot.login

    def repository_ids(self) -> list[int]:
        """Repositories that the token and, still, its installation cover."""
        scope = self.token.repository_ids
        return [i for i in self.installation.repository_ids if scope is None or i in scope]


@dataclass(frozen=True, slots=True)
class UserCaller:
    account: Account

    @property
    def name(self) -> str:
        return self.account.login


Caller = Anonymous | AppCaller | InstallationCaller | UserCaller


def identify(state: State, authorization: str | None) -> Caller:
    """Raises ApiError 401 when a credential is given and wrong; none given is anonymous."""
    if not authorization:
        return Anonymous()
    credential = _credential(authorization)
    if credential.count(".") == 2:
        app = verify_app_jwt(state, credential)
        state.credentials.add(credential)
        return AppCaller(app)
    return _token_caller(state, credential)


def _credential(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() in {"bearer", "token"}:
        return value.strip()
    if scheme.lower() != "basic":
        raise bad_credentials()
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise bad_credentials() from None
    return user if password in {"", "x-oauth-basic"} else password


def _token_caller(state: State, credential: str) -> Caller:
    personal = state.personal_tokens.get(credential)
    if personal is not None:
        return UserCaller(state.accounts[personal.account_id])
    token = state.installation_tokens.get(credential)
    if token is None or token.expires_at <= time.time():
        raise bad_credentials()
    installation = state.installations[token.installation_id]
    if installation.suspended_at is not None:
        raise suspended()
    app = state.apps[installation.app_id]
    return InstallationCaller(app, installation, token, state.accounts[app.bot_id])


def verify_app_jwt(state: State, token: str) -> App:
    """Raises ApiError with GitHub's words for each way in which the assertion is wrong."""
    app = _issuer(state, token)
    claims = _verified_claims(app, token)
    now = time.time()
    expires, issued = claims.get("exp"), claims.get("iat")
    if expires is None:
        raise ApiError(401, "Missing 'expiration time' claim ('exp') in assertion")
    if not isinstance(expires, int | float) or expires <= now:
        raise ApiError(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future"
            " time at which the assertion expires",
        )
    if expires > now + JWT_LIFETIME:
        raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future")
    if not isinstance(issued, int | float) or issued > now:
        raise ApiError(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the"
            " assertion was issued",
        )
    return app


def _issuer(state: State, token: str) -> App:
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise _undecodable() from None
    issuer = str(claims.get("iss", ""))
    for app in state.apps.values():
        if issuer in {str(app.id), app.client_id}:
            return app
    raise ApiError(404, "Integration not found")


def _verified_claims(app: App, token: str) -> dict[str, Any]:
    """Only the signature is left to PyJWT: the claims have messages of their own."""
    options: Any = {
        f"verify_{claim}": False for claim in ("exp", "iat", "nbf", "iss", "aud", "sub", "jti")
    }
    for key in app.public_keys:
        try:
            claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], options=options)
        except jwt.PyJWTError:
            continue
        return claims
    raise _undecodable()


def _undecodable() -> ApiError:
    return ApiError(401, "A JSON web token could not be decoded")
