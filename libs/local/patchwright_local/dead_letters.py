"""What no retry could cure, and what an operator can do about it once the cause is mended.

A message is sent again first and its dead letter deleted afterwards, both under names made of
the letter: whoever is killed in between does the same once more, and nothing doubles.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nats.js.errors import NotFoundError

from patchwright_common import flow
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.errors import Permanent
from patchwright_common.flow import PW_DLQ, PW_GITHUB, Stream
from patchwright_ingest.attempts import NO_ATTEMPTS, Attempts
from patchwright_ingest.triage import REPLAY

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.api import RawStreamMsg

DELIVERY_ID = "x-github-delivery"
NOTHING_DONE = "Nothing was sent and nothing deleted."
_OURS = ("nats-", "patchwright-reason", "patchwright-subject", "patchwright-sequence",
    "patchwright-delivered", "patchwright-trace")  # fmt: skip
"""Headers that are about one stored message and are not sent on; a body's reference is."""


class Way(enum.Enum):
    """How a dead letter is redriven."""

    AGAIN = "the message is sent again as it was, on its own subject"
    ANEW = "the job ended as a failure: its delivery is sent again as a new request"


@dataclass(frozen=True)
class DeadLetter:
    """A message of `PW_DLQ`. Header names are in lower case."""

    sequence: int
    at: datetime
    consumer: str
    job_id: str
    """Empty for none."""
    subject: str
    """The original message's; `origin` is its sequence there."""
    origin: int
    reason: str
    delivered: int
    trace_id: str
    headers: dict[str, str]
    body: bytes

    @property
    def name(self) -> str:
        """By which what is sent for it is known again; a stream that was made anew counts anew."""
        return f"redrive-{self.sequence}-{int(self.at.timestamp())}"


def read(message: RawStreamMsg) -> DeadLetter:
    """The dead letter in a stored message; what is missing is empty."""
    headers = {name.lower(): value for name, value in (message.headers or {}).items()}
    *who, job_id = (message.subject or "").removeprefix(f"{flow.DEAD_LETTER.prefix}.").split(".")
    return DeadLetter(
        sequence=message.seq or 0,
        at=message.time or datetime.fromtimestamp(0, UTC),
        consumer="-".join(who),
        job_id="" if job_id == "none" else job_id,
        subject=headers.get("patchwright-subject", ""),
        origin=_number(headers.get("patchwright-sequence", "")),
        reason=headers.get("patchwright-reason", ""),
        delivered=_number(headers.get("patchwright-delivered", "")),
        trace_id=headers.get("patchwright-trace", ""),
        headers=headers,
        body=message.data or b"",
    )


def way(letter: DeadLetter) -> Way:
    """What redriving means for this one. Raises `Permanent` for one that nobody would hear."""
    known = {consumer.name: consumer for consumer in flow.consumers()}
    consumer = known.get(letter.consumer)
    if consumer is None or not letter.subject:
        raise Permanent(
            f"Dead letter {letter.sequence} is of {letter.consumer}, which is not there any more.",
            advice=NOTHING_DONE,
        )
    return Way.ANEW if letter.job_id and consumer.policy.tells_user else Way.AGAIN


class DeadLetters:
    """The stream, as the operator. Raises `Permanent`, `Retry` and what nats-py raises."""

    def __init__(self, client: Client) -> None:
        self._bus = Bus(client)
        self._js = self._bus.js

    async def all(self) -> AsyncIterator[DeadLetter]:
        """Oldest first."""
        async for message in self._messages(PW_DLQ, ">"):
            yield read(message)

    async def get(self, sequence: int) -> DeadLetter:
        """One of them."""
        try:
            return read(await self._js.get_msg(PW_DLQ.name, seq=sequence))
        except NotFoundError:
            raise Permanent(f"{PW_DLQ.name} holds no message {sequence}.") from None

    async def drop(self, letter: DeadLetter) -> None:
        """Forget it; one that is gone already is no error."""
        try:
            await self._js.delete_msg(PW_DLQ.name, letter.sequence)
        except NotFoundError:
            return

    async def redrive(self, letter: DeadLetter) -> str:
        """Send it again, then forget it; a sentence about what was done."""
        if way(letter) is Way.ANEW:
            done = await self._anew(letter)
        else:
            done = await self._again(letter)
        await self.drop(letter)
        return done

    async def _again(self, letter: DeadLetter) -> str:
        stream = next(s for s in flow.STREAMS if letter.subject.startswith(s.subjects[0][:-1]))
        headers, body = letter.headers, letter.body
        original = await self._original(stream, letter)
        if original is not None:
            headers, body = original.headers or {}, original.data or b""
        elif not body and flow.BODY_REFERENCE.lower() not in headers:
            raise Permanent(
                f"The body of dead letter {letter.sequence} was too large for it, and "
                f"{stream.name} does not hold the message any more.",
                advice=NOTHING_DONE,
            )
        sequence = await self._send(letter, stream, letter.subject, body, headers)
        return f"sent again on {letter.subject}, as message {sequence} of {stream.name}"

    async def _original(self, stream: Stream, letter: DeadLetter) -> RawStreamMsg | None:
        try:
            found = await self._js.get_msg(stream.name, seq=letter.origin)
        except NotFoundError:
            return None
        return found if found.subject == letter.subject else None

    async def _anew(self, letter: DeadLetter) -> str:
        """As `just replay --new` does, but once for each letter."""
        claims = await Claims.open(self._js)
        trigger, _, number = letter.job_id.rpartition("-")
        attempts = await claims.read(f"trigger.{trigger}", Attempts) or NO_ATTEMPTS
        known = attempts.of(letter.name)
        if known:
            return f"asked for again already, as job {trigger}-{known}"
        if len(attempts.deliveries) > _number(number):
            raise Permanent(
                f"Job {letter.job_id} was asked for again since, as job "
                f"{trigger}-{len(attempts.deliveries)}.",
                advice=f"{NOTHING_DONE} `just dlq drop {letter.sequence}` forgets it.",
            )
        outcome = await claims.outcome(letter.job_id)
        if outcome is not None and outcome.kind != "failure":
            raise Permanent(
                f"Job {letter.job_id} did not fail: its result is {outcome.url or outcome.kind}.",
                advice=f"{NOTHING_DONE} `just dlq drop {letter.sequence}` forgets it.",
            )
        delivery = await self._delivery(letter.job_id)
        headers = {n: v for n, v in (delivery.headers or {}).items() if n.lower() != "traceparent"}
        headers = {n: v for n, v in headers.items() if n.lower() != REPLAY}
        headers[REPLAY] = letter.name
        subject, body = delivery.subject or "", delivery.data or b""
        await self._send(letter, PW_GITHUB, subject, body, headers)
        return f"delivery {delivery.seq} of {PW_GITHUB.name} sent as new: another attempt begins"

    async def _delivery(self, job_id: str) -> RawStreamMsg:
        """The stored delivery by which the job was requested."""
        job = await self._bus.job(job_id)
        pattern = f"{flow.DELIVERY_RECEIVED.prefix}.*.*.{job.repository.id}"
        async for message in self._messages(PW_GITHUB, pattern):
            headers = {name.lower(): value for name, value in (message.headers or {}).items()}
            if job.delivery_id in (headers.get(REPLAY), headers.get(DELIVERY_ID)):
                return message
        raise Permanent(
            f"{PW_GITHUB.name} does not hold the delivery of job {job_id} any more.",
            advice=f"{NOTHING_DONE} Whoever wants the job can set its label again.",
        )

    async def _send(
        self,
        letter: DeadLetter,
        stream: Stream,
        subject: str,
        body: bytes,
        headers: dict[str, str],
    ) -> int:
        kept = {n: v for n, v in headers.items() if not n.lower().startswith(_OURS)}
        kept["Nats-Msg-Id"] = letter.name
        ack = await self._js.publish(subject, body, stream=stream.name, headers=kept)
        return int(ack.seq)

    async def _messages(self, stream: Stream, pattern: str) -> AsyncIterator[RawStreamMsg]:
        sequence = 1
        while True:
            try:
                found = await self._js.get_msg(
                    stream.name, seq=sequence, subject=pattern, next=True
                )
            except NotFoundError:
                return
            yield found
            sequence = (found.seq or sequence) + 1


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0
