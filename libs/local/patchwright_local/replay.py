"""Sends a stored delivery or event again, as an operator can with the plain NATS CLI."""

from __future__ import annotations

import secrets
from pathlib import Path

from nats.js.errors import NotFoundError

from patchwright_common.flow import PW_EVENTS, PW_GITHUB
from patchwright_local.connection import connected
from patchwright_local.processes import StartError

STREAMS = {"github": PW_GITHUB.name, "events": PW_EVENTS.name}
_SERVER_HEADERS = ("Nats-Expected-Last-Subject-Sequence", "Nats-Expected-Stream", "Nats-Msg-Id")


async def replay(
    nats_url: str, nkey_file: Path | None, stream: str, sequence: int, *, as_new: bool
) -> str:
    """Publish the stored message again and return a line about it.

    As it was, it makes no second result: its delivery is known. `as_new` gives it an id
    of its own, which begins a new attempt; only deliveries can be sent as new.
    """
    if as_new and stream != "github":
        raise StartError("Only a delivery can be sent as new: replay its sequence in PW_GITHUB.")
    async with connected(nats_url, nkey_file) as client:
        js = client.jetstream(timeout=5)
        try:
            stored = await js.get_msg(STREAMS[stream], seq=sequence)
        except NotFoundError:
            raise StartError(f"{STREAMS[stream]} holds no message {sequence}.") from None
        headers = {k: v for k, v in (stored.headers or {}).items() if k not in _SERVER_HEADERS}
        if as_new:
            headers["Patchwright-Replay"] = f"replay-{secrets.token_hex(8)}"
            headers.pop("traceparent", None)  # a new request has a story of its own
        ack = await js.publish(
            stored.subject or "", stored.data or b"", stream=STREAMS[stream], headers=headers
        )
    how = "as new" if as_new else "as it was"
    return f"{stored.subject} sent again {how}, as message {ack.seq}"
