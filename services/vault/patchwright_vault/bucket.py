"""The KV bucket `PW_VAULT` as bytes: what is there, and writing only if nothing changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats.errors
from nats.js import api
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError

from patchwright_common.bus import WRONG_LAST_SEQUENCE
from patchwright_common.errors import Retry
from patchwright_common.flow import PW_VAULT

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

STREAM = f"KV_{PW_VAULT.name}"
SUBJECT = f"$KV.{PW_VAULT.name}."
FENCE = "fence"
"""A name that never holds anything: writing there only counts the bucket's sequence up."""


class Bucket:
    """Every method raises `Retry` when NATS is away."""

    def __init__(self, js: JetStreamContext, values: KeyValue) -> None:
        self._js = js
        self._values = values

    @classmethod
    async def open(cls, js: JetStreamContext) -> Bucket:
        """Bind to the bucket that `just topology` made. Raises `Retry` while it is not there."""
        async with _errors():
            try:
                return cls(js, await js.key_value(PW_VAULT.name))
            except BucketNotFoundError:
                raise Retry(f"{PW_VAULT.name} is missing: run `just topology`") from None

    async def sequence(self) -> int:
        """Of the last write to any name."""
        async with _errors():
            return (await self._js.stream_info(STREAM)).state.last_seq

    async def get(self, name: str) -> tuple[bytes | None, int]:
        """The record with its revision; None with that of the deletion, or 0, if there is none."""
        async with _errors():
            try:
                # Names that the library would refuse are listed too, and can be deleted.
                entry = await self._values.get(name, validate_keys=False)
            except KeyNotFoundError as missing:
                return None, missing.entry.revision or 0 if missing.entry else 0
        return entry.value or b"", entry.revision or 0

    async def everything(self) -> AsyncIterator[tuple[str, bytes]]:
        """Every record by name, in their order."""
        async with _errors():
            info = await self._js.stream_info(STREAM, subjects_filter=f"{SUBJECT}>")
        for subject in sorted(info.state.subjects or {}):
            name = subject.removeprefix(SUBJECT)
            record, _ = await self.get(name)
            if record is not None:  # a deletion has a subject too
                yield name, record

    async def put(self, name: str, record: bytes, expected: int) -> bool:
        """Store unless the sequence is not `expected` any more; whether it was stored."""
        return await self._publish(name, record, expected, {})

    async def delete(self, name: str, expected: int) -> bool:
        """Leave a marker in its place, on the same terms."""
        return await self._publish(name, b"", expected, {"KV-Operation": "DEL"})

    async def fence(self) -> None:
        """Make every write fail that looked at the sequence before."""
        async with _errors():
            await self._values.delete(FENCE)

    async def _publish(
        self, name: str, body: bytes, expected: int, headers: dict[str, str]
    ) -> bool:
        expectation = {api.Header.EXPECTED_LAST_SEQUENCE.value: str(expected)}
        async with _errors():
            try:
                await self._js.publish(SUBJECT + name, body, headers=expectation | headers)
            except APIError as error:
                if error.err_code in WRONG_LAST_SEQUENCE:
                    return False
                raise
        return True


@asynccontextmanager
async def _errors() -> AsyncIterator[None]:
    try:
        yield
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise Retry(f"{PW_VAULT.name} did not answer: {type(error).__name__}") from None
