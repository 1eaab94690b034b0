"""What the server has stored, to the last byte."""

from __future__ import annotations

import re
from pathlib import Path

from nats.js.errors import NotFoundError

from patchwright_common.bus import Bus


async def everything_stored(bus: Bus) -> bytes:
    """Bodies, headers and subjects of every message in every stream, buckets included."""
    found = bytearray()
    for info in await bus.js.streams_info():
        for sequence in range(1, info.state.last_seq + 1):
            try:
                message = await bus.js.get_msg(info.config.name or "", seq=sequence)
            except NotFoundError:
                continue  # a newer revision took its place
            found += f"{message.subject} {message.headers}".encode() + (message.data or b"")
    return bytes(found)


def bytes_on_disk(folder: Path) -> bytes:
    """The server's own files, where old revisions may still be."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def writes(bus: Bus) -> int:
    """How often a record of the vault was written; the bucket keeps the last ones only."""
    return (await bus.js.stream_info("KV_PW_VAULT")).state.last_seq


def lines_of(pem: str) -> list[str]:
    """What is secret of a PEM."""
    return [line for line in re.split(r"\s+", pem) if len(line) > 40]
