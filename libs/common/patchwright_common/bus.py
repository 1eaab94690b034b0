"""The wire: one NATS connection, publishing by route, objects named by digest."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.js import api
from nats.js.errors import (
    APIError,
    BadObjectMetaError,
    NotFoundError,
    ObjectNotFoundError,
)
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from patchwright_common import telemetry
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import Event, JobRequested
from patchwright_common.flow import JOB_REQUESTED, Bucket, Route, Stream, writers

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.api import RawStreamMsg
    from nats.js.object_store import ObjectStore

log = logging.getLogger(__name__)

TIMEOUT = 5.0
"""Seconds for one exchange with the server."""
OBJECT_TIMEOUT = 60.0
"""Seconds to move one object of tens of megabytes."""
WRONG_LAST_SEQUENCE = (10071, 10164)
"""JetStream's error codes when an expected last sequence does not hold."""
AWAY = (nats.errors.Error, TimeoutError, OSError)
"""What nats-py raises when the server is not there, or not itself."""
RECORD_LIMIT = 100
"""Messages on a job's subject that are looked through for its record."""
RECORD_TRIES = 10
"""How often a record is tried to be put behind what came onto its subject meanwhile."""
OWN_HEADERS = 512
"""Bytes that `publish` and nats-py add: trace context, message id, expectations."""
EXPECTED = str(api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value)
"""What only somebody who publishes with `once` writes: the server's own messages lack it."""
CHANGED = "The stored data of this request was changed on the way."


class Bus:
    """What a service does with NATS, apart from consuming."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.js = client.jetstream(timeout=TIMEOUT)

    async def publish(
        self,
        route: Route,
        tokens: tuple[str, ...],
        body: bytes,
        *,
        message_id: str,
        headers: dict[str, str] | None = None,
        once: bool = False,
        behind: int = 0,
        timeout: float = TIMEOUT,
    ) -> int | None:
        """Store a message and return its stream sequence.

        With `once` the subject takes a single message for as long as the stream
        keeps it: None when it is already there. `behind` is the sequence of the
        subject's last message that does not count for this. Raises `Retry` when the server
        did not confirm, in which case the message may or may not be stored, and
        `Permanent` when it is larger than the server takes.
        """
        subject = route.subject(*tokens)
        if not self.fits(body, headers):
            raise Permanent("The result is too large to be handed on.")
        attributes = {
            telemetry.MESSAGING_SYSTEM: "nats",
            telemetry.MESSAGING_DESTINATION: subject,
            telemetry.MESSAGING_OPERATION: "send",
        }
        name = f"publish {route.prefix.removeprefix('pw.').removeprefix('evt.')}"
        with telemetry.span(name, kind=SpanKind.PRODUCER, attributes=attributes):
            sent = {**(headers or {}), **telemetry.inject()}
            if once:
                sent[EXPECTED] = str(behind)
            named = {**sent, api.Header.MSG_ID: message_id} if message_id else sent
            ack = await self._send(route, subject, body, named, timeout)
            if ack and ack.duplicate and not await self._is_ours(route, subject, ack.seq):
                log.error("%s was sent under an id that another subject had used", subject)
                ack = await self._send(route, subject, body, sent, timeout)
        return int(ack.seq) if ack else None

    async def _send(
        self, route: Route, subject: str, body: bytes, headers: dict[str, str], timeout: float
    ) -> api.PubAck | None:
        """None when the subject's last message is not the expected one."""
        try:
            return await self.js.publish(
                subject, body, timeout=timeout, stream=route.stream.name, headers=headers
            )
        except APIError as error:
            if EXPECTED in headers and error.err_code in WRONG_LAST_SEQUENCE:
                return None
            raise Retry(f"{route.stream.name} refused a message: {error.description}") from error
        except AWAY as error:
            raise Retry(f"no confirmation from {route.stream.name}: {error!r}") from error

    async def _is_ours(self, route: Route, subject: str, sequence: int) -> bool:
        """Whether the message that ours is said to repeat has our subject.

        Ids hold for a whole stream: whoever writes to it can use up those of the others.
        """
        if len(writers(route.stream)) == 1:
            return True
        message = await self._message(route.stream, seq=sequence)
        return message is not None and message.subject == subject

    def fits(self, body: bytes, headers: dict[str, str] | None = None) -> bool:
        """Whether the server takes a message of this size.

        It counts the headers, nats-py does not; and it answers what is larger by closing
        the connection, which nats-py then never opens again (2.16).
        """
        named = sum(len(f"{k}: {v}\r\n".encode()) for k, v in (headers or {}).items())
        return len(body) + named + OWN_HEADERS <= self.client.max_payload

    async def emit(
        self, route: Route, event: Event, *, step: str, once: bool = False, behind: int = 0
    ) -> int | None:
        """Publish an event of a job. `step` names it within the job, for deduplication."""
        if not isinstance(event, route.payload or Event):
            raise TypeError(f"{route.name} carries {route.payload}, not {type(event).__name__}")
        return await self.publish(
            route,
            (event.job_id,),
            event.model_dump_json().encode(),
            message_id="" if once else f"{event.job_id}:{step}",
            once=once,
            behind=behind,
        )

    async def stored(self, stream: Stream, sequence: int) -> bytes | None:
        """The body of a stored message, or None when the stream no longer has it."""
        message = await self._message(stream, seq=sequence)
        return None if message is None else message.data or b""

    async def job(self, job_id: str) -> JobRequested:
        """Triage's record of the job. Raises `Permanent` when there is none that can be read.

        The first message of triage on the subject is the record: it is published with
        that condition, and whatever came later is not.
        """
        message, _ = await self._record(job_id)
        if message is None:
            raise Permanent("There is no record of this request.")
        try:
            record = JobRequested.model_validate_json(message.data or b"")
        except ValidationError:
            raise Permanent("The record of this request is malformed.") from None
        if record.job_id != job_id:
            raise Permanent("The record of this request names another one.")
        return record

    async def record(self, job: JobRequested) -> bool:
        """Publish triage's record of a job; False when it has one.

        Raises `Permanent` when too much else is on its subject to find a record there.
        """
        behind = 0
        for _ in range(RECORD_TRIES):
            stored = await self.emit(JOB_REQUESTED, job, step="", once=True, behind=behind)
            if stored is not None:
                return True
            message, behind = await self._record(job.job_id)
            if message is not None:
                return False
        raise Retry("the place of this request's record changes all the time")

    async def _record(self, job_id: str) -> tuple[RawStreamMsg | None, int]:
        """The first message by triage, or None and the sequence of the last by the server.

        Every service can let the server send its answers to any subject. They carry no
        headers, and the other services may not write to the subject themselves.
        """
        subject, last = JOB_REQUESTED.subject(job_id), 0
        for _ in range(RECORD_LIMIT):
            message = await self._message(
                JOB_REQUESTED.stream, seq=last + 1, subject=subject, next=True
            )
            if message is None or EXPECTED in (message.headers or {}):
                return message, last
            last = message.seq or 0
        raise Permanent(
            "The record of this request cannot be told from other messages.",
            advice=f"Operators: look at the messages on `{subject}`, and who sent them.",
        )

    async def _message(self, stream: Stream, **which: Any) -> RawStreamMsg | None:
        """A stored message, or None when there is none such."""
        try:
            return await self.js.get_msg(stream.name, **which)
        except NotFoundError:
            return None
        except AWAY as error:
            raise Retry(f"{stream.name} did not answer: {error!r}") from error

    async def put(self, bucket: Bucket, data: bytes) -> str:
        """Store `data` under its SHA-256 and return that in hex. Storing twice is harmless."""
        digest = hashlib.sha256(data).hexdigest()
        async with _object_errors(bucket):
            store = await self._objects(bucket)
            try:
                stored = (await store.get_info(digest)).digest
            except ObjectNotFoundError:
                stored = None
            if stored != _nats_digest(digest):
                await store.put(digest, data)
        return digest

    async def get(self, bucket: Bucket, digest: str, *, limit: int) -> bytes:
        """The object with that SHA-256.

        Raises `Permanent` when it is gone, was changed or has more than `limit` bytes.
        """
        async with _object_errors(bucket):
            store = await self._objects(bucket)
            try:
                info = await store.get_info(digest)
                size = info.size or 0
                if size > limit:
                    raise Permanent(
                        f"The stored data of this request is larger than {limit // 2**20} MiB."
                    )
                data = await self._pieces(bucket, info.nuid or "", size)
            except NotFoundError as error:
                raise Permanent("The stored data of this request is no longer there.") from error
            except BadObjectMetaError as error:
                raise Permanent(CHANGED) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise Permanent(CHANGED)
        return data

    async def _pieces(self, bucket: Bucket, nuid: str, size: int) -> bytes:
        """An object's bytes, piece by piece. Raises `NotFoundError`.

        nats-py reads by a consumer of its own, and whoever may make consumers may let the
        server deliver a stream's messages to any subject.
        """
        data, sequence = bytearray(), 0
        while len(data) < size:
            piece = await self.js.get_msg(
                f"OBJ_{bucket.name}",
                seq=sequence + 1,
                subject=f"$O.{bucket.name}.C.{nuid}",
                next=True,
            )
            data += piece.data or b""
            sequence = piece.seq or 0
        return bytes(data)

    async def _objects(self, bucket: Bucket) -> ObjectStore:
        return await self.js.object_store(bucket.name)

    async def request(self, subject: str, body: bytes, *, timeout: float = TIMEOUT) -> bytes:
        """A core request: never stored. Raises `Retry` when nobody answers in time."""
        try:
            reply = await self.client.request(
                subject, body, timeout=timeout, headers=telemetry.inject()
            )
        except AWAY as error:
            raise Retry(f"no answer on {subject}: {type(error).__name__}") from error
        return reply.data


async def flush(client: Client) -> None:
    """Return when the server has seen all that was sent. Raises what `AWAY` names.

    nats-py (2.16) writes a flush's PING before the commands that still wait for their turn, such
    as a subscription of just now. They are written once it is answered; the second is behind them.
    """
    for _ in range(2):
        await client.flush(timeout=int(TIMEOUT))


@asynccontextmanager
async def _object_errors(bucket: Bucket) -> AsyncIterator[None]:
    """A time limit for moving an object, and NATS's errors as `Retry`."""
    try:
        async with asyncio.timeout(OBJECT_TIMEOUT):
            yield
    except AWAY as error:
        raise Retry(f"{bucket.name} did not answer: {error!r}") from error


def _nats_digest(sha256: str) -> str:
    """The same SHA-256 in the form that the object store records."""
    return "SHA-256=" + base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode()
