"""Responses that go wrong on purpose after they began."""

from __future__ import annotations

import asyncio

from starlette.responses import StreamingResponse
from starlette.types import Send

HANG_SECONDS = 3600.0


class TornResponse(StreamingResponse):
    """Sends a body and never ends it, so that the server tears the connection."""

    async def stream_response(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async for piece in self.body_iterator:
            await send({"type": "http.response.body", "body": piece, "more_body": True})


async def silence() -> None:
    """As long as no client waits for."""
    await asyncio.sleep(HANG_SECONDS)
