"""Turns what a handler did into what the broker is told. The only place that catches everything.

    returned            acknowledge, after the effect
    Overtaken           say nothing: the message belongs to the new owner
    Retry, or unknown   come back later, by the consumer's policy
    Permanent           dead letter, then JobFailed, then terminate
    policy used up      the same as Permanent
    cancelled           hand it back at once: the service is stopping

The server's own `max_deliver` is -1: it would drop a message without a word, while
here somebody is always left to write the dead letter. So the delivery count is read
before the handler is called, and a message whose handler keeps dying ends as well.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import nats.errors
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from patchwright_common import clock, steps, telemetry
from patchwright_common.beside import cancel_until_done
from patchwright_common.bus import TIMEOUT, Bus
from patchwright_common.errors import Overtaken, Permanent, Retry
from patchwright_common.events import JOB_ID, Event, JobFailed
from patchwright_common.flow import (
    BODY_REFERENCE,
    DEAD_LETTER,
    DELIVERY_BYTES,
    JOB_FAILED,
    PW_DELIVERIES,
    Consumer,
)

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = logging.getLogger(__name__)

Payload = TypeVar("Payload", bound=Event)

JITTER = 0.2
"""Delays vary by this share, so that what failed together does not return together."""
DELAY_LIMIT = 24 * 3600.0
"""Seconds: no server that says when to come back is believed beyond a day."""
REASON_LIMIT = 1000
"""Characters of the reason in a dead letter's header; JobFailed has it in full."""


@dataclass(frozen=True)
class Delivery:
    """One delivery of a stored message to one consumer."""

    consumer: Consumer
    subject: str
    body: bytes
    headers: dict[str, str]
    """Names in lower case."""
    sequence: int
    """The message's place in its stream."""
    delivered: int
    """How often it was handed out, this time included."""

    @property
    def job_id(self) -> str:
        """The job it is about, or empty for raw deliveries and for what names no job."""
        job_id = self.subject.rsplit(".", 1)[1]
        named = self.subject.startswith("pw.evt.") and re.fullmatch(JOB_ID, job_id)
        return job_id if named else ""

    def read(self, kind: type[Payload]) -> Payload:
        """The validated event. Raises `Permanent` without quoting the body."""
        try:
            event = kind.model_validate_json(self.body)
        except ValidationError as error:
            places = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors())
            raise Permanent(
                "An internal message was malformed, so the request cannot go on.",
                advice=f"Operators: `{self.subject}` does not fit {kind.__name__} ({places}).",
            ) from None
        if event.job_id != self.job_id:
            raise Permanent("An internal message names another job than its subject.")
        return event


async def whole_body(bus: Bus, delivery: Delivery) -> bytes:
    """A raw delivery's body, wherever it lies. Raises `Permanent` when it is gone or too large."""
    if digest := delivery.headers.get(BODY_REFERENCE.lower()):
        return await bus.get(PW_DELIVERIES, digest, limit=DELIVERY_BYTES)
    return delivery.body


Handler = Callable[[Delivery], Awaitable[None]]


class Deliveries:
    """Runs handlers under the delivery rules of this module."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def process(self, message: Msg, consumer: Consumer, handle: Handler) -> None:
        """Handle one message and tell the broker how it went. Raises only CancelledError."""
        metadata = message.metadata
        delivery = Delivery(
            consumer=consumer,
            subject=message.subject,
            body=message.data,
            headers={k.lower(): v for k, v in (message.headers or {}).items()},
            sequence=metadata.sequence.stream,
            delivered=metadata.num_delivered,
        )
        attributes = {
            telemetry.MESSAGING_SYSTEM: "nats",
            telemetry.MESSAGING_DESTINATION: delivery.subject,
            telemetry.MESSAGING_CONSUMER: consumer.name,
            telemetry.MESSAGING_OPERATION: "process",
            telemetry.DELIVERED: delivery.delivered,
        }
        with (
            telemetry.span(
                f"process {consumer.name}",
                kind=SpanKind.CONSUMER,
                parent=telemetry.extract(delivery.headers),
                attributes=attributes,
            ),
            telemetry.job(delivery.job_id),
        ):
            try:
                await self._settle(message, delivery, handle)
            except asyncio.CancelledError:
                await asyncio.shield(self._tell(message, "-NAK"))
                raise
            except Exception as error:
                # The broker redelivers after `ack_wait`: nothing is lost, only late.
                telemetry.fail(type(error).__name__)
                log.exception("%s could not be settled", delivery.subject)

    async def _settle(self, message: Msg, delivery: Delivery, handle: Handler) -> None:
        limit = delivery.consumer.policy.limit
        hold = _Hold(delivery.consumer.ack_wait)
        try:
            if limit is not None and delivery.delivered > limit:
                raise Permanent(f"It was tried {limit} times and never finished.")
            async with _kept_alive(message, delivery.consumer, hold):
                await handle(delivery)
        except asyncio.CancelledError:
            if _stopping():
                raise
            await self._retry(message, delivery, Retry("something that it waits for was cancelled"))
        except Overtaken as overtaken:
            log.info("left to the new owner: %s", overtaken)
        except Permanent as permanent:
            await self._give_up(message, delivery, permanent)
        except Exception as error:  # what nobody foresaw is tried again
            if hold.lost:
                # The broker has handed it out again, and would once more at our word.
                trace = None if isinstance(error, Retry) else error
                log.info("left to whoever has it by now: %s", _describe(error), exc_info=trace)
            else:
                await self._retry(message, delivery, error)
        else:
            steps.reached(f"{delivery.consumer.name}.handled")
            await self._tell(message, "+ACK")

    async def _retry(self, message: Msg, delivery: Delivery, error: Exception) -> None:
        policy = delivery.consumer.policy
        if policy.limit is not None and delivery.delivered >= policy.limit:
            reason = f"It failed {delivery.delivered} times; the last time: {_describe(error)}"
            await self._give_up(message, delivery, Permanent(reason))
            return
        delay = policy.delay(delivery.delivered)
        if isinstance(error, Retry):
            log.warning("%s: %s", delivery.consumer.name, error.reason)
            delay = error.after if error.after is not None else delay
        else:
            log.error("%s failed unexpectedly", delivery.consumer.name, exc_info=error)
        delay *= 1 + random.uniform(0, JITTER)  # noqa: S311  not for cryptography
        await self._tell(message, _later(delay))

    async def _give_up(self, message: Msg, delivery: Delivery, error: Permanent) -> None:
        """Each step may be repeated: the ids make the second time a no-op."""
        consumer, job_id = delivery.consumer, delivery.job_id
        reason, advice = _encodable(error.reason), _encodable(error.advice)
        log.error("%s gives up: %s", consumer.name, reason)
        telemetry.fail(reason)
        if consumer.policy.limit is None and job_id:
            # What must be reported is never dropped: it waits for a mended service.
            delay = consumer.policy.delays[-1]
            await self._tell(message, _later(delay))
            return
        headers = _kept_headers(message) | {
            "Patchwright-Reason": " ".join(reason.split())[:REASON_LIMIT],
            "Patchwright-Subject": delivery.subject,
            "Patchwright-Sequence": str(delivery.sequence),
            "Patchwright-Delivered": str(delivery.delivered),
            "Patchwright-Trace": telemetry.trace_id(),
        }
        await self._bus.publish(
            DEAD_LETTER,
            (*consumer.name.split("-", 2), job_id or "none"),
            # What has no room beside the reason is still in its stream, at that sequence.
            delivery.body if self._bus.fits(delivery.body, headers) else b"",
            message_id=f"{consumer.name}:{delivery.sequence}",
            headers=headers,
        )
        steps.reached(f"{consumer.name}.dead-lettered")
        if job_id and consumer.policy.tells_user:
            failed = JobFailed(
                job_id=job_id,
                stage=consumer.name,
                reason="\n\n".join(filter(None, (reason, _encodable(error.details)))),
                advice=advice,
                trace_id=telemetry.trace_id(),
                sequence=delivery.sequence,
            )
            await self._bus.emit(JOB_FAILED, failed, step=f"failed:{delivery.sequence}")
            steps.reached(f"{consumer.name}.failure-told")
        await self._tell(message, "+TERM")

    async def _tell(self, message: Msg, verb: str) -> None:
        """Acknowledge and wait until the server has taken it (nats-py waits only for ACK).

        https://docs.nats.io/reference/reference-protocols/nats_api_reference#acknowledging-messages
        """
        try:
            await self._bus.client.request(message.reply, verb.encode(), timeout=TIMEOUT)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.warning("%s not confirmed: %r", verb.partition(" ")[0], error)


class _Hold:
    """Whether the message is still ours; whoever was paused learns it from the clock."""

    def __init__(self, ack_wait: float) -> None:
        self._ack_wait = ack_wait
        self.beat()

    def beat(self) -> None:
        self._beaten = clock.now()

    @property
    def lost(self) -> bool:
        return clock.now() - self._beaten > self._ack_wait


@asynccontextmanager
async def _kept_alive(message: Msg, consumer: Consumer, hold: _Hold) -> AsyncIterator[None]:
    """Hold off redelivery while the handler runs, within the consumer's time limit."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(consumer.ack_wait / 3)
            if hold.lost:
                return
            try:
                await message.in_progress()
                hold.beat()
            except (nats.errors.Error, OSError) as error:
                log.warning("heartbeat not sent: %r", error)

    heart = asyncio.create_task(beat())
    try:
        async with asyncio.timeout(consumer.time_limit) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise  # the handler's own, about something smaller
        raise Retry(f"took over {consumer.time_limit:.0f} s") from error
    finally:
        await cancel_until_done(heart)


def _stopping() -> bool:
    """Whether a CancelledError is meant for us, and not left over from a handler's own task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _kept_headers(message: Msg) -> dict[str, str]:
    """The original's, without what steers the server and what `publish` sets anew."""
    ours = ("nats-", "traceparent", "tracestate")
    headers = message.headers or {}
    return {k: v for k, v in headers.items() if not k.lower().startswith(ours)}


def _encodable(text: str) -> str:
    """Text with a lone surrogate, as file names bring it, could be neither sent nor stored."""
    return text.encode(errors="replace").decode()


def _later(delay: float) -> str:
    """A negative acknowledgement with a delay, which the server reads in nanoseconds."""
    return f'-NAK {{"delay": {int(min(max(delay, 0), DELAY_LIMIT) * 1e9)}}}'


def _describe(error: Exception) -> str:
    return error.reason if isinstance(error, Retry) else type(error).__name__
