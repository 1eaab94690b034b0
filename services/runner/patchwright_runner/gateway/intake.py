"""Takes in the bodies of requests: in time, not too large, and not too many at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from starlette.requests import ClientDisconnect, Request

from patchwright_runner.gateway.refusal import OVERLOADED, TIMEOUT, TOO_LARGE, RefusedError

BODY_BYTES = 32 * 1024**2
"""As the API's: https://platform.claude.com/docs/en/api/errors, "Request size limits"."""
BODY_SECONDS = 60.0
HELD_BODIES = 4
"""Largest bodies that may be in memory at once: a long conversation with images, the count of its
tokens, and some subagents."""
LINGER = 1.0
"""Seconds that a sender of too much has to stop writing."""


@dataclass(slots=True)
class Body:
    """What was taken in. `held` counts when its bytes are something else, such as a query."""

    raw: bytearray = field(default_factory=bytearray)
    held: int = 0

    def take(self) -> bytearray:
        """The bytes, which are not kept here any longer."""
        raw, self.raw = self.raw, bytearray()
        return raw


class Intake:
    """For all requests of one gateway. Limits are in bytes and seconds."""

    def __init__(self, limit: int = BODY_BYTES, seconds: float = BODY_SECONDS) -> None:
        self._limit = limit
        self._seconds = seconds
        self._held = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[Body]:
        """It counts as held until the block ends. Raises RefusedError."""
        body = Body()
        try:
            await self._read(request, body)
            yield body
        finally:
            self._held -= body.held

    async def _read(self, request: Request, body: Body) -> None:
        if _announced(request) > self._limit:
            await self._refuse_large(request)
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in request.stream():
                    if body.held + len(chunk) > self._limit:
                        await self._refuse_large(request)
                    self._hold(body, chunk)
        except TimeoutError:
            raise RefusedError(
                "The request body did not arrive in time.", status=408, kind=TIMEOUT, close=True
            ) from None
        except ClientDisconnect:
            raise RefusedError("The request body was cut off.", close=True) from None

    def _hold(self, body: Body, chunk: bytes) -> None:
        if self._held + len(chunk) > HELD_BODIES * self._limit:
            raise RefusedError(
                "Too many large requests at once.",
                status=529,
                kind=OVERLOADED,
                again=True,
                close=True,
            )
        body.raw += chunk
        body.held += len(chunk)
        self._held += len(chunk)

    async def _refuse_large(self, request: Request) -> NoReturn:
        """Throw a little more away: a sender that writes on would see a reset and no answer."""
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(LINGER):
                async for _ in request.stream():
                    pass
        raise RefusedError(
            f"The request body is larger than {self._limit:,} bytes.",
            status=413,
            kind=TOO_LARGE,
            close=True,
        )


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0
