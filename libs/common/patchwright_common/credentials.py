"""Asking the vault. Requests and replies travel as core messages and are never stored.

A request names a key made for it alone, and the reply is sealed to that key with the
caller, the verb, the job and a nonce bound in. What is secret in a request (an operator
bringing a key) is sealed to the vault's own key.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from patchwright_common import requests, wire
from patchwright_common.errors import NotInstalled, Permanent, Retry

if TYPE_CHECKING:
    from patchwright_common.bus import Bus

EXPIRY_MARGIN = 300.0
"""Seconds before its expiry from which a token is not handed out any more."""
ANSWER_TIMEOUT = 15.0
"""Seconds that an asker waits."""
UNREADABLE = "the vault's answer could not be read"


class Request(BaseModel):
    """The envelope of every request. `body` is the verb's own JSON, as text.

    `sealed` holds it instead where it brings a secret, encrypted to the vault's key.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    key: str = Field(pattern=rf"^[0-9a-f]{{{2 * wire.KEY_BYTES}}}$")
    """X25519, in hex like everything binary here."""
    nonce: str = Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")
    job_id: str = Field(default="", pattern=r"^[A-Za-z0-9-]{0,64}$")
    body: str = Field(default="{}", repr=False)
    sealed: str = Field(default="", pattern=r"^([0-9a-f]{2})*$", repr=False)

    def context(self, direction: str, caller: str, verb: str) -> bytes:
        """What is bound into an encryption; `direction` is `ask` or `reply`."""
        return wire.context(
            "patchwright/1", direction, caller, verb, self.job_id, self.nonce, self.key
        )


class TokenRequest(BaseModel):
    """For one repository and one job; the permissions follow from who asks.

    Triage alone may leave the job out, because it asks before there is one.
    """

    installation_id: int
    repository_id: int
    job_id: str = ""
    refused: str = ""
    """SHA-256 in hex of a token that GitHub did not accept: it is not handed out again."""


class MarkRequest(BaseModel):
    """Sign the marker by which the publisher knows its own comments again."""

    job_id: str


class AppFacts(BaseModel):
    """What everybody may know of the App."""

    app_id: str
    slug: str
    """Its name in URLs and mentions."""
    api_url: str
    """GitHub's REST API, without a slash at the end."""
    html_url: str = ""


class Reply(BaseModel):
    """What the vault answers: a value, or an error that says whether to come back."""

    model_config = ConfigDict(hide_input_in_errors=True)

    value: str | None = Field(default=None, repr=False)
    expires_at: float = 0.0
    """Seconds since the epoch; 0 for what does not expire."""
    error: str = ""
    permanent: bool = False
    not_installed: bool = False
    retry_after: float | None = None


class WebhookSecret(BaseModel):
    """One that verifies until its end. A vault of an earlier release tells the bare secret."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    secret: SecretStr
    until: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """When it stops to verify, in seconds since the epoch; 0 for no end that is known."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"secret": value} if isinstance(value, str) else value

    def verifies(self, now: float) -> bool:
        """`now` in seconds since the epoch."""
        return not 0 < self.until <= now


_WEBHOOK_SECRETS = TypeAdapter(list[WebhookSecret])


class Vault:
    """The vault as one identity sees it."""

    def __init__(self, bus: Bus, caller: str) -> None:
        self._bus = bus
        self._caller = caller

    async def token(self, request: TokenRequest, *, refused: SecretStr | None = None) -> SecretStr:
        """An installation token with the permissions of this caller.

        Another one than `refused`, which GitHub did not accept.
        """
        if refused is not None:
            request = request.model_copy(update={"refused": digest(refused)})
        reply = await self.ask("token", request.model_dump(), job_id=request.job_id)
        if reply.expires_at and reply.expires_at < time.time() + EXPIRY_MARGIN / 10:
            raise Retry("the vault's token is about to expire")
        return _value(reply)

    async def webhook_secrets(self) -> list[WebhookSecret]:
        """The secrets that verify at the moment, newest first; for ingest alone.

        Whoever keeps them asks each one at each use whether it still `verifies`.
        """
        reply = _value(await self.ask("webhook-secret"))
        try:
            return _WEBHOOK_SECRETS.validate_json(reply.get_secret_value())
        except ValidationError:
            raise Retry(UNREADABLE) from None

    async def model_key(self, job_id: str = "") -> SecretStr:
        """For the runner alone."""
        return _value(await self.ask("model-key", job_id=job_id))

    async def mark(self, job_id: str) -> str:
        """The signature of the job's marker, in hex; for the publisher alone."""
        request = MarkRequest(job_id=job_id)
        reply = await self.ask("mark", request.model_dump(), job_id=job_id)
        return _value(reply).get_secret_value()

    async def app(self) -> AppFacts:
        """What the App is called and which GitHub it lives on."""
        reply = _value(await self.ask("app"))
        try:
            return AppFacts.model_validate_json(reply.get_secret_value())
        except ValidationError:
            raise Retry(UNREADABLE) from None

    async def tell(self, verb: str, secret_body: dict[str, Any]) -> Reply:
        """As `ask`, with a body that only the vault can read; for the set-up alone."""
        key = bytes.fromhex(_value(await self.ask("key")).get_secret_value())
        return await self.ask(verb, secret_body, seal_to=key)

    async def ask(
        self,
        verb: str,
        body: dict[str, Any] | None = None,
        *,
        job_id: str = "",
        seal_to: bytes = b"",
    ) -> Reply:
        """The vault's answer. Raises `Permanent` for a refusal, `Retry` for everything else."""
        reply = await self.exchange(verb, json.dumps(body or {}), job_id=job_id, seal_to=seal_to)
        if reply.error and reply.not_installed:
            raise NotInstalled(reply.error)
        if reply.error and reply.permanent:
            raise Permanent(reply.error)
        if reply.error:
            raise Retry(reply.error, after=reply.retry_after)
        return reply

    async def exchange(
        self, verb: str, body: str, *, job_id: str = "", seal_to: bytes = b""
    ) -> Reply:
        """One request and its opened answer, errors included. Raises `Retry` without one."""
        own = wire.Keypair()
        request = Request(key=own.public.hex(), nonce=secrets.token_urlsafe(16), job_id=job_id)
        if seal_to:
            context = request.context("ask", self._caller, verb)
            request.sealed = wire.seal(body.encode(), seal_to, context).hex()
        else:
            request.body = body
        data = await self._bus.request(
            requests.subject(self._caller, verb),
            request.model_dump_json().encode(),
            timeout=ANSWER_TIMEOUT,
        )
        return _opened(own, data, request.context("reply", self._caller, verb))


def sealed_reply(reply: Reply, request: Request, caller: str, verb: str) -> bytes:
    """The vault's side: readable by whoever made that request."""
    context = request.context("reply", caller, verb)
    return wire.seal(reply.model_dump_json().encode(), bytes.fromhex(request.key), context)


def digest(token: SecretStr) -> str:
    """How a token is named to the vault without being shown."""
    return hashlib.sha256(token.get_secret_value().encode()).hexdigest()


def _opened(own: wire.Keypair, data: bytes, context: bytes) -> Reply:
    try:
        return Reply.model_validate_json(own.open(data, context))
    except (wire.UnreadableError, ValidationError):
        raise Retry(UNREADABLE) from None


def _value(reply: Reply) -> SecretStr:
    if reply.value is None:
        raise Retry("the vault answered without a value")
    return SecretStr(reply.value)
