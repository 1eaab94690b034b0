"""Answers `pw.rpc.vault.<caller>.<verb>`: refusals and failures are answers too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from faststream.nats import NatsBroker, NatsMessage
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from patchwright_common import telemetry
from patchwright_common.credentials import MarkRequest, Reply, TokenRequest
from patchwright_common.errors import Permanent, Retry
from patchwright_vault.grants import VERBS, allowed
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import MODEL_KEY, WEBHOOK_SECRET, Store
from patchwright_vault.tokens import Minter

log = logging.getLogger(__name__)

ANSWER_TIMEOUT = 12.0
"""Seconds; the services wait for 15, and nothing is worked out for one that has left."""
CONCURRENT = 64
"""Requests of one verb at once: one slow installation must not hold up the others."""

Request = TypeVar("Request", TokenRequest, MarkRequest)
Answer = Callable[[str, bytes], Awaitable[Reply]]


class Handlers:
    """One method a verb; each takes the caller and the body."""

    def __init__(self, store: Store, minter: Minter, sealer: Sealer) -> None:
        self._store = store
        self._minter = minter
        self._sealer = sealer

    def attach(self, broker: NatsBroker) -> None:
        """Listen on every verb, sharing the work with other vaults."""
        for verb in VERBS:
            self._listen(broker, verb)

    def _listen(self, broker: NatsBroker, verb: str) -> None:
        @broker.subscriber(
            f"pw.rpc.vault.*.{verb}",
            queue="vault",
            decoder=_leave_encoded,
            max_workers=CONCURRENT,
        )
        async def receive(message: NatsMessage) -> bytes:
            caller = message.raw_message.subject.split(".")[3]
            reply = await self.answer(caller, verb, message.body, dict(message.headers or {}))
            return reply.model_dump_json().encode()

    async def answer(self, caller: str, verb: str, body: bytes, headers: dict[str, str]) -> Reply:
        """The reply to one request. Raises nothing: whoever asks shall not have to guess."""
        answers: dict[str, Answer] = {
            "token": self._token,
            "webhook-secret": lambda _caller, _body: self._secret(WEBHOOK_SECRET),
            "model-key": lambda _caller, _body: self._secret(MODEL_KEY),
            "mark": self._mark,
        }
        with telemetry.span(
            f"answer {verb}",
            kind=SpanKind.SERVER,
            parent=telemetry.extract(headers),
            attributes={"patchwright.caller": caller},
        ):
            try:
                if not allowed(caller, verb):
                    raise Permanent(f"{caller} may not ask the vault for {verb}.")
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    return await answers[verb](caller, body)
            except TimeoutError:
                log.warning("no %s for %s in time", verb, caller)
                telemetry.fail("timeout")
                return Reply(error="the vault could not answer in time")
            except Permanent as error:
                log.error("refused %s to %s: %s", verb, caller, error.reason)
                telemetry.fail(error.reason)
                return Reply(error=error.reason, permanent=True)
            except Retry as error:
                log.warning("no %s for %s yet: %s", verb, caller, error.reason)
                telemetry.fail(error.reason)
                return Reply(error=error.reason, retry_after=error.after)
            except Exception as error:
                log.exception("answering %s failed", verb)
                telemetry.fail(type(error).__name__)
                return Reply(error="the vault failed; its log says more")

    async def _token(self, caller: str, body: bytes) -> Reply:
        token = await self._minter.token(caller, _parse(TokenRequest, body))
        return Reply(value=token.value, expires_at=token.expires_at)

    async def _secret(self, name: str) -> Reply:
        return Reply(value=(await self._store.get(name)).decode())

    async def _mark(self, _caller: str, body: bytes) -> Reply:
        return Reply(value=self._sealer.mark(_parse(MarkRequest, body).job_id))


def _parse(kind: type[Request], body: bytes) -> Request:
    try:
        return kind.model_validate_json(body)
    except ValidationError:
        raise Permanent("The request to the vault was malformed.") from None


async def _leave_encoded(message: NatsMessage) -> bytes:
    return message.body
