"""Asking the vault. Requests and replies travel as core messages and are never stored.

The caller's name is in the subject (`pw.rpc.vault.<caller>.<verb>`), because NATS does
not tell a responder who asks: only that identity may publish there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from patchwright_common.errors import Permanent, Retry

if TYPE_CHECKING:
    from patchwright_common.bus import Bus

EXPIRY_MARGIN = 300.0
"""Seconds before its expiry from which a token is not handed out any more."""


class TokenRequest(BaseModel):
    """For one repository and one job; the permissions follow from who asks."""

    installation_id: int
    repository_id: int
    job_id: str = ""


class MarkRequest(BaseModel):
    """Sign the marker by which the publisher knows its own comments again."""

    job_id: str


class Reply(BaseModel):
    """What the vault answers: a value, or an error that says whether to come back."""

    model_config = ConfigDict(hide_input_in_errors=True)

    value: str | None = Field(default=None, repr=False)
    expires_at: float = 0.0
    """Seconds since the epoch; 0 for what does not expire."""
    error: str = ""
    permanent: bool = False
    retry_after: float | None = None


class Vault:
    """The vault as one service sees it."""

    def __init__(self, bus: Bus, caller: str) -> None:
        self._bus = bus
        self._caller = caller

    async def token(self, request: TokenRequest) -> SecretStr:
        """An installation token with the permissions of this caller."""
        reply = await self._ask("token", request.model_dump_json())
        if reply.expires_at and reply.expires_at < time.time() + EXPIRY_MARGIN / 10:
            raise Retry("the vault's token is about to expire")
        return _value(reply)

    async def webhook_secret(self) -> SecretStr:
        """For ingest alone."""
        return _value(await self._ask("webhook-secret", "{}"))

    async def model_key(self) -> SecretStr:
        """For the runner alone."""
        return _value(await self._ask("model-key", "{}"))

    async def mark(self, job_id: str) -> str:
        """The signature of the job's marker, in hex; for the publisher alone."""
        request = MarkRequest(job_id=job_id)
        return _value(await self._ask("mark", request.model_dump_json())).get_secret_value()

    async def _ask(self, verb: str, body: str) -> Reply:
        subject = f"pw.rpc.vault.{self._caller}.{verb}"
        data = await self._bus.request(subject, body.encode(), timeout=15.0)
        try:
            reply = Reply.model_validate_json(data)
        except ValidationError:
            raise Retry("the vault's answer could not be read") from None
        if reply.error and reply.permanent:
            raise Permanent(reply.error)
        if reply.error:
            raise Retry(reply.error, after=reply.retry_after)
        return reply


def _value(reply: Reply) -> SecretStr:
    if reply.value is None:
        raise Retry("the vault answered without a value")
    return SecretStr(reply.value)
