"""JetStream in memory, as far as the services use it: what it stores and whom it gives it to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from nats.js.errors import (
    APIError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
)

from patchwright_common import flow
from patchwright_common.bus import EXPECTED, WRONG_LAST_SEQUENCE, Bus
from patchwright_common.flow import Bucket, Consumer

from .fate import Loud, exchange


@dataclass
class Stored:
    """A message of a stream."""

    seq: int
    subject: str
    data: bytes
    headers: dict[str, str]


@dataclass
class Handed:
    """What one consumer has of one message."""

    message: Stored
    delivered: int = 0
    settled: bool = False


class Broker(Loud):
    """Streams, consumers, buckets: stands for nats-py's client, its `js` and its bucket."""

    max_payload = 2**20

    def __init__(self) -> None:
        self.on_change: Callable[[str, bytes | None, bytes], None] = lambda *_: None
        """Called before each change of a record: key, before, after."""
        self.on_store: Callable[[Stored], None] = lambda _: None
        """Called with each message that a service publishes."""
        self.streams: dict[str, list[Stored]] = {stream.name: [] for stream in flow.STREAMS}
        self.handed: dict[str, list[Handed]] = {c.name: [] for c in flow.consumers()}
        self.records: dict[str, tuple[bytes, int]] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._revision = 0

    def bus(self) -> Bus:
        """A connection of a service's own."""
        made = Bus(self)  # type: ignore[arg-type]
        made.get = _no_object  # type: ignore[method-assign]
        return made

    def jetstream(self, **_: Any) -> Broker:
        return self

    def store(self, subject: str, data: bytes, headers: dict[str, str]) -> tuple[int, bool]:
        """The sequence, and whether it was there already; raises APIError."""
        name = _stream_of(subject)
        kept = self.streams[name]
        message_id = headers.get("Nats-Msg-Id")
        if message_id and (name, message_id) in self._ids:
            return self._ids[name, message_id], True
        if EXPECTED in headers:
            last = max((m.seq for m in kept if m.subject == subject), default=0)
            if last != int(headers[EXPECTED]):
                raise APIError(code=400, err_code=WRONG_LAST_SEQUENCE[0], description="wrong last")
        message = Stored(len(kept) + 1, subject, data, dict(headers))
        kept.append(message)
        if message_id:
            self._ids[name, message_id] = message.seq
        for consumer in flow.consumers():
            stream = flow.route_of(consumer).stream.name
            if stream == name and any(_matches(one, subject) for one in consumer.subjects):
                self.handed[consumer.name].append(Handed(message))
        return message.seq, False

    def forget_ids(self) -> None:
        """The duplicate window has passed."""
        self._ids.clear()

    def waiting(self, consumer: Consumer) -> list[Handed]:
        """Not settled yet, oldest first."""
        return [one for one in self.handed[consumer.name] if not one.settled]

    def hand_out(self, consumer: Consumer, handed: Handed) -> Any:
        """As nats-py brings it."""
        handed.delivered += 1
        place = self.handed[consumer.name].index(handed)
        return SimpleNamespace(
            subject=handed.message.subject,
            data=handed.message.data,
            headers=handed.message.headers,
            reply=f"{consumer.name}:{place}",
            metadata=SimpleNamespace(
                sequence=SimpleNamespace(stream=handed.message.seq),
                num_delivered=handed.delivered,
            ),
            in_progress=_nothing,
        )

    async def request(self, subject: str, verb: bytes, **_: Any) -> None:
        """Acknowledge, for everybody who was given the message."""

        def effect() -> None:
            consumer, _, place = subject.rpartition(":")
            if verb in (b"+ACK", b"+TERM"):
                self.handed[consumer][int(place)].settled = True

        await exchange("acknowledge", effect, lost=TimeoutError)

    # --- JetStream, as Bus and Claims call it ------------------------------------------

    async def publish(self, subject: str, data: bytes, *, headers: Any, **_: Any) -> Any:
        def effect() -> tuple[int, bool]:
            seq, duplicate = self.store(subject, data, headers)
            if not duplicate:
                self.on_store(self.streams[_stream_of(subject)][seq - 1])
            return seq, duplicate

        seq, duplicate = await exchange(f"publish {subject}", effect, lost=TimeoutError)
        return SimpleNamespace(seq=seq, duplicate=duplicate)

    async def get_msg(self, stream: str, seq: int, subject: str = "", next: bool = False) -> Stored:  # noqa: A002
        def effect() -> Stored:
            for message in self.streams[stream]:
                wanted = not subject or message.subject == subject
                if wanted and (message.seq >= seq if next else message.seq == seq):
                    return message
            raise NotFoundError

        return await exchange("read", effect, lost=TimeoutError)

    async def get_last_msg(self, stream: str, subject: str) -> Stored:
        def effect() -> Stored:
            for message in reversed(self.streams[stream]):
                if message.subject == subject:
                    return message
            raise NotFoundError

        return await exchange("read", effect, lost=TimeoutError)

    async def consumer_info(self, _stream: str, name: str) -> Any:
        def effect() -> Any:
            floor = 0
            for one in self.handed[name]:
                if not one.settled:
                    break
                floor = one.message.seq
            out = max((one.message.seq for one in self.handed[name] if one.delivered), default=0)
            return SimpleNamespace(
                ack_floor=SimpleNamespace(stream_seq=floor),
                delivered=SimpleNamespace(stream_seq=out),
                num_waiting=1,
            )

        return await exchange("read", effect, lost=TimeoutError)

    async def stream_info(self, stream: str, subjects_filter: str) -> Any:
        bucket = stream.removeprefix("KV_")

        def effect() -> Any:
            names = {f"$KV.{bucket}.{key}": 1 for key in self.records}
            found = {name: n for name, n in names.items() if _matches(subjects_filter, name)}
            return SimpleNamespace(state=SimpleNamespace(subjects=found))

        return await exchange("read", effect, lost=TimeoutError)

    # --- the bucket of claims ----------------------------------------------------------

    async def get(self, key: str) -> Any:
        def effect() -> Any:
            if key not in self.records:
                raise KeyNotFoundError
            value, revision = self.records[key]
            return SimpleNamespace(value=value, revision=revision)

        return await exchange("read", effect, lost=TimeoutError)

    async def update(self, key: str, value: bytes, revision: int) -> None:
        def effect() -> None:
            if self.records.get(key, (b"", 0))[1] != revision:
                raise KeyWrongLastSequenceError
            before = self.records[key][0] if key in self.records else None
            self.on_change(key, before, value)
            self._revision += 1
            self.records[key] = (value, self._revision)

        await exchange(f"update {key}", effect, lost=TimeoutError)


async def _nothing() -> None:
    pass


async def _no_object(_bucket: Bucket, _digest: str, *, limit: int) -> bytes:
    assert limit > 0
    return b""


def _stream_of(subject: str) -> str:
    [name] = [s.name for s in flow.STREAMS if _matches(s.subjects[0], subject)]
    return name


@cache
def _matches(pattern: str, subject: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+")
    return re.fullmatch(expression, subject) is not None
