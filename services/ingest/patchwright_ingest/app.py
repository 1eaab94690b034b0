"""The webhook's endpoint: verify, store, answer. Nothing behind the bus is called."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from opentelemetry.trace import SpanKind
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from patchwright_common import steps, telemetry
from patchwright_common.bus import AWAY, Bus
from patchwright_common.errors import Retry
from patchwright_common.flow import BODY_REFERENCE, DELIVERY_RECEIVED, PW_DELIVERIES
from patchwright_ingest.admission import SMALL, Admission, Entry, Limits
from patchwright_ingest.webhook import (
    BODY_LIMIT,
    RefusedError,
    Webhook,
    check_envelope,
    is_signed,
    read,
)

log = logging.getLogger(__name__)

Result = TypeVar("Result")

BODY_TIMEOUT = 10.0
"""Seconds for the sender to hand over the body; GitHub itself gives up after 10."""
PUBLISH_TIMEOUT = 1.5
"""Seconds until a silent bus is answered with 503, well inside GitHub's 10."""
OBJECT_TIMEOUT = 7.0
"""Seconds to store a body too large for a message, once the bus has shown that it answers."""
LINGER = 1.0
"""Seconds that a sender of too much has to stop writing."""
LATER = 30
"""Seconds after which a bus that is away or full may well be back."""
HEADER_ROOM = 16 * 1024
"""Bytes of a message that are left to its headers."""


class Secrets(Protocol):
    """The webhook secrets, wherever they come from."""

    def known(self) -> tuple[SecretStr, ...]:
        """Those that verify at the moment; none while they are not known yet."""

    async def doubt(self) -> bool:
        """After a signature that did not match: whether the secrets are others now."""


def _no_alarms() -> list[str]:
    return []


class Ingest:
    """The endpoints. `body_timeout` is in seconds; `alarms` says what is nearly full."""

    def __init__(
        self,
        bus: Bus,
        secrets: Secrets,
        *,
        limits: Limits | None = None,
        alarms: Callable[[], list[str]] = _no_alarms,
        body_timeout: float = BODY_TIMEOUT,
    ) -> None:
        self._admission = Admission(limits or Limits())
        self._alarms = alarms
        self._bus = bus
        self._secrets = secrets
        self._body_timeout = body_timeout

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/webhooks/github", self.receive, methods=["POST"]),
                Route("/healthz", self.health),
                Route("/readyz", self.ready),
            ],
            exception_handlers={HTTPException: _refused, Exception: _failed},
        )

    async def health(self, _request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Webhooks can be taken in: the secret is known and the bus is there."""
        missing = [
            name
            for name, there in (
                ("webhook secret", bool(self._secrets.known())),
                ("NATS", self._bus.client.is_connected),
            )
            if not there
        ]
        status = "waiting for " + " and ".join(missing) if missing else "ok"
        # Nearly full is no reason to send webhooks elsewhere: a full stream is answered with 503.
        alarms = self._alarms()
        said = {"status": status} | ({"alarms": alarms} if alarms else {})
        return JSONResponse(said, 503 if missing else 200)

    async def receive(self, request: Request) -> Response:
        """202 after JetStream's PubAck, or a status with a reason; never a stack trace."""
        attributes = {telemetry.DELIVERY_ID: request.headers.get("x-github-delivery", "")[:64]}
        with telemetry.span("receive webhook", kind=SpanKind.SERVER, attributes=attributes):
            try:
                with self._admission.request(request.client and request.client.host) as entry:
                    return await self._receive(request, entry)
            except RefusedError as refused:
                telemetry.fail(refused.reason)
                return await _answer(request, refused)
            except Retry as retry:
                log.warning("delivery not stored: %s", retry.reason)
                telemetry.fail(retry.reason)
                reason = "deliveries cannot be stored at the moment; redeliver later"
                return JSONResponse({"error": reason}, 503, {"Retry-After": str(LATER)})

    async def _receive(self, request: Request, entry: Entry) -> Response:
        headers = request.headers
        check_envelope(headers)
        self._values()  # before anybody sends a large body for nothing
        # Not copied before it is verified: nobody without the secret takes up more than its size.
        unverified = await _bounded_body(request, self._body_timeout, entry)
        await self._verify(unverified, headers["x-hub-signature-256"])
        entry.signed()
        webhook = read(headers, bytes(unverified))
        del unverified
        self._admission.let_in(webhook)
        if webhook.event == "ping":
            return JSONResponse({"status": "pong"})
        await self._store(webhook)
        return JSONResponse(
            {"status": "accepted", "delivery": webhook.delivery_id, "trace": telemetry.trace_id()},
            202,
        )

    def _values(self) -> list[bytes]:
        """The secrets. Raises `Retry` while none is known."""
        known = self._secrets.known()
        if not known:
            raise Retry("the webhook secret is not known yet")
        return [secret.get_secret_value().encode() for secret in known]

    async def _verify(self, body: bytearray, signature: str) -> None:
        """Raises `RefusedError` (401), `Retry` when the last secret has just gone."""
        if is_signed(self._values(), body, signature):
            return
        if await self._secrets.doubt() and is_signed(self._values(), body, signature):
            return
        raise RefusedError(401, "the signature does not match")

    async def _store(self, webhook: Webhook) -> None:
        if not self._bus.client.is_connected:
            raise Retry("not connected to NATS")
        body, headers = webhook.body, dict(webhook.headers)
        if len(body) > self._bus.client.max_payload - HEADER_ROOM:
            headers[BODY_REFERENCE] = await self._store_apart(body)
            body = b""
        publishing = self._bus.publish(
            DELIVERY_RECEIVED,
            (webhook.event, webhook.action, webhook.repository_id),
            body,
            message_id=webhook.delivery_id,
            headers=headers,
            timeout=PUBLISH_TIMEOUT,
        )
        # The time limit inside covers the confirmation only, not a full socket before it.
        await _within(PUBLISH_TIMEOUT, publishing)
        steps.reached("ingest.delivery-stored")

    async def _store_apart(self, body: bytes) -> str:
        """Put a large body into the object store and return its digest."""
        # Asked first, so that a silent bus is noticed as fast as with a small body.
        await _within(PUBLISH_TIMEOUT, self._bus.js.object_store(PW_DELIVERIES.name))
        return await _within(OBJECT_TIMEOUT, self._bus.put(PW_DELIVERIES, body))


async def _within(seconds: float, work: Coroutine[Any, Any, Result]) -> Result:
    """Its result in time; the end of the time, like any error of NATS, is a `Retry`.

    The work is left behind and not awaited to its end: nats-py 2.16 swallows the
    cancellation while its buffers are full, and goes on until a time limit of its own.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
        raise Retry("NATS did not confirm in time")
    except AWAY as error:
        raise Retry(f"NATS did not confirm: {type(error).__name__}") from None
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_forget)


def _forget(task: asyncio.Task[Any]) -> None:
    """Look at what became of it: asyncio complains about errors that nobody saw."""
    if not task.cancelled():
        task.exception()


async def _refused(_request: Request, error: Exception) -> Response:
    """404 and 405 in the words of the router, as JSON like everything else."""
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail.lower()}, error.status_code, error.headers)


async def _failed(_request: Request, _error: Exception) -> Response:
    """A bug: Starlette raises it again after the answer, and uvicorn logs it."""
    return JSONResponse({"error": "ingest failed; its log says more"}, 500)


async def _discard(request: Request) -> None:
    """Throw a little more away: a sender that writes on would see a reset and no answer."""
    room = 2 * BODY_LIMIT
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(LINGER):
            async for chunk in request.stream():
                room -= len(chunk)
                if room < 0:
                    return


async def _answer(request: Request, refused: RefusedError) -> Response:
    """The refusal; a body that nobody wants is neither awaited nor kept."""
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after else {}
    unread = refused.status in (408, 413) or (refused.retry_after > 0 and _is_large(request))
    if unread:
        # Without it uvicorn would go on reading.
        headers["Connection"] = "close"
        if refused.status != 408:
            await _discard(request)
    return JSONResponse({"error": refused.reason}, refused.status, headers)


def _is_large(request: Request) -> bool:
    """Whether more may come than what is read away in passing."""
    length = request.headers.get("content-length", "")
    return not (length.isdecimal() and len(length) < 10 and int(length) <= SMALL)


async def _bounded_body(request: Request, seconds: float, entry: Entry) -> bytearray:
    """The raw body, read no further than the limit. Raises `RefusedError`: 400, 408, 413, 503."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > BODY_LIMIT:
                    raise RefusedError(413, f"the body is larger than {BODY_LIMIT} bytes")
                entry.room.grow(len(body) + len(chunk))
                body += chunk
    except TimeoutError:
        raise RefusedError(408, "the body did not arrive in time") from None
    except ClientDisconnect:
        raise RefusedError(400, "the body was cut off") from None
    return body
