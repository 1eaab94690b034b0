"""What a stream holds, whatever was deleted from it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError


async def messages_of(
    js: JetStreamContext, stream: str, subject: str = ">"
) -> AsyncIterator[RawStreamMsg]:
    """The messages, oldest first."""
    last = 0
    while True:
        try:
            message = await js.get_msg(stream, seq=last + 1, subject=subject, next=True)
        except NotFoundError:
            return
        last = message.seq or 0
        yield message
