"""Answers `pw.rpc.vault.<caller>.<verb>`: refusals and failures are answers too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from faststream.exceptions import RejectMessage
from faststream.nats import NatsBroker, NatsMessage
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ValidationError

from patchwright_common import telemetry
from patchwright_common.credentials import Reply, Request, sealed_reply
from patchwright_common.errors import NotInstalled, Permanent, Retry
from patchwright_common.permissions import inbox
from patchwright_common.requests import IDENTITIES, PREFIX, VERBS, allowed
from patchwright_common.requests import subject as subject_of
from patchwright_common.wire import Keypair, UnreadableError
from patchwright_vault.audit import Ask, Audit, Grant
from patchwright_vault.store import MissingError

log = logging.getLogger(__name__)

ANSWER_TIMEOUT = 12.0
"""Seconds; the services wait for 15, and nothing is worked out for one that has left."""
CONCURRENT = 64
"""Requests of one verb at once: one slow installation must not hold up the others."""
PUBLIC = frozenset(verb.name for verb in VERBS if verb.public)
CHANGING = frozenset(verb.name for verb in VERBS if verb.changes)

Answer = Callable[[Ask], Awaitable[Grant]]
Body = TypeVar("Body", bound=BaseModel)


class Handlers:
    """Dispatches to `answers`, which has a function for each verb.

    `transport` opens what is sealed to the vault.
    """

    def __init__(self, answers: Mapping[str, Answer], audit: Audit, transport: Keypair) -> None:
        self._answers = answers
        self._audit = audit
        self._transport = transport
        self._absences: dict[tuple[str, str], str] = {}

    def attach(self, broker: NatsBroker) -> None:
        """Listen on every verb, sharing the work with other vaults."""
        for verb in VERBS:
            self._listen(broker, verb.name)

    def _listen(self, broker: NatsBroker, verb: str) -> None:
        @broker.subscriber(
            f"{PREFIX}.*.{verb}", queue="vault", decoder=_leave_encoded, max_workers=CONCURRENT
        )
        async def receive(message: NatsMessage) -> bytes:
            raw = message.raw_message
            caller = caller_of(raw.subject, raw.reply, verb)
            if caller is None:
                log.error("ignored what came as a request for %s and is none", verb)
                raise RejectMessage
            return await self.receive(caller, verb, message.body, dict(message.headers or {}))

    async def receive(self, caller: str, verb: str, data: bytes, headers: dict[str, str]) -> bytes:
        """The sealed reply to one message; empty for one without a key to seal it to."""
        with telemetry.span(
            f"answer {verb}",
            kind=SpanKind.SERVER,
            parent=telemetry.extract(headers),
            attributes={"patchwright.caller": caller},
        ):
            try:
                request = Request.model_validate_json(data)
                ask = Ask(
                    caller,
                    verb,
                    request.job_id,
                    request.nonce,
                    self._body(request, caller, verb),
                    sealed=bool(request.sealed),
                )
                # To some keys nothing can be sealed: who brings one could not read the answer.
                sealed_reply(Reply(), request, caller, verb)
            except (ValidationError, UnreadableError):
                log.error("%s asked for %s in a form that cannot be read", caller, verb)
                telemetry.fail("unreadable")
                return b""
            with telemetry.job(ask.job_id):
                reply = await self._reply(ask)
            return sealed_reply(reply, request, caller, verb)

    def _body(self, request: Request, caller: str, verb: str) -> bytes:
        if not request.sealed:
            return request.body.encode()
        return self._transport.open(
            bytes.fromhex(request.sealed), request.context("ask", caller, verb)
        )

    async def _reply(self, ask: Ask) -> Reply:
        """Raises nothing: whoever asks shall not have to guess."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await self._granted(ask)
        except TimeoutError:
            log.warning("no %s for %s in time", ask.verb, ask.caller)
            telemetry.fail("timeout")
            return Reply(error="the vault could not answer in time")
        except Retry as error:
            self._absent(ask, error.reason)
            return Reply(error=error.reason, retry_after=error.after)
        except Exception as error:
            log.exception("answering %s failed", ask.verb)
            telemetry.fail(type(error).__name__)
            return Reply(error="the vault failed; its log says more")

    async def _granted(self, ask: Ask) -> Reply:
        """Raises `Retry`, also when the audit cannot be written."""
        try:
            if not allowed(ask.caller, ask.verb):
                raise Permanent(f"{ask.caller} may not ask the vault for {ask.verb}.")
            if ask.verb in CHANGING:
                await self._audit.given(ask, Grant())
            grant = await self._answers[ask.verb](ask)
        except MissingError as error:
            # What was never set is no refusal, and whoever waits for it asks for ever.
            self._absent(ask, error.reason)
            return Reply(error=error.reason, permanent=True)
        except Permanent as error:
            log.error("refused %s to %s: %s", ask.verb, ask.caller, error.reason)
            telemetry.fail(error.reason)
            await self._audit.refused(ask, error.reason)
            gone = isinstance(error, NotInstalled)
            return Reply(error=error.reason, permanent=True, not_installed=gone)
        if ask.verb not in PUBLIC | CHANGING:
            await self._audit.given(ask, grant)
        self._absences.pop((ask.caller, ask.verb), None)
        return Reply(value=grant.value, expires_at=grant.expires_at)

    def _absent(self, ask: Ask, reason: str) -> None:
        """Said once, until it is another reason or an answer: services ask every few seconds."""
        key = (ask.caller, ask.verb)
        level = logging.DEBUG if self._absences.get(key) == reason else logging.WARNING
        self._absences[key] = reason
        log.log(level, "no %s for %s yet: %s", ask.verb, ask.caller, reason)
        telemetry.fail(reason)


def caller_of(subject: str, reply: str, verb: str) -> str | None:
    """Who asks, or None for a message that only looks like a request.

    The server delivers a stored message to any subject that a puller names, and the
    message keeps its own: what was not published here proves nothing about its sender.
    And the asker chooses where the answer goes, which may not be where the vault writes
    its own records or acknowledges its own messages.
    """
    caller = subject.removeprefix(f"{PREFIX}.").removesuffix(f".{verb}")
    asked_here = subject == subject_of(caller, verb) and "." not in caller
    inboxes = tuple(f"{inbox(name)}." for name in IDENTITIES)
    return caller if asked_here and reply.startswith(inboxes) else None


def parsed(kind: type[Body], ask: Ask) -> Body:
    """The verb's own words. Raises `Permanent` without quoting them."""
    try:
        return kind.model_validate_json(ask.body)
    except ValidationError:
        raise Permanent("The request to the vault was malformed.") from None


async def _leave_encoded(message: NatsMessage) -> bytes:
    return message.body
