"""Everything that the broker keeps, read through its own API."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from harness.stack import RunningStack
from patchwright_common.requests import OPERATOR

from .git_objects import unbundled
from .places import BUCKETS, OBJECTS, STREAMS, Place

VAULT = "KV_PW_VAULT"
AT_ONCE = 32


async def stored(stack: RunningStack) -> AsyncIterator[Place]:
    """Every message of every stream; an object's pieces together, a bundle's objects too."""
    async with stack.nats(OPERATOR) as client:
        js = client.jetstream(timeout=10)
        names = [info.config.name or "" for info in await js.streams_info()]
        for name in names:
            config = (await js.stream_info(name)).config
            yield Place(_kind(name), f"{name}: its configuration", repr(config).encode())
            if name == VAULT:
                continue
            for place in await _messages(stack, js, name):
                yield place
    # The operator may not read the vault's bucket.
    async with stack.nats("vault") as client:
        for place in await _messages(stack, client.jetstream(timeout=10), VAULT):
            yield place


def _kind(stream: str) -> str:
    prefix = stream.partition("_")[0]
    return {"KV": BUCKETS, "OBJ": OBJECTS}.get(prefix, STREAMS)


async def _messages(stack: RunningStack, js: JetStreamContext, name: str) -> list[Place]:
    last = (await js.stream_info(name)).state.last_seq
    slots = asyncio.Semaphore(AT_ONCE)

    async def message(sequence: int) -> RawStreamMsg | None:
        async with slots:
            try:
                return await js.get_msg(name, seq=sequence)
            except NotFoundError:
                return None  # deleted, or replaced in its bucket: the store's files may have it

    found = await asyncio.gather(*(message(sequence) for sequence in range(1, last + 1)))
    whole: defaultdict[str, bytearray] = defaultdict(bytearray)
    places = []
    for one in filter(None, found):
        # Values that are not ASCII are objects of `email.header`.
        headers = "\n".join(f"{key}: {value}" for key, value in (one.headers or {}).items())
        data = one.data or b""
        whole_message = f"{one.subject}\n{headers}\n\n".encode() + data
        places.append(Place(_kind(name), f"{name} {one.subject}", whole_message))
        if name.startswith("OBJ_"):
            whole[one.subject or ""] += data
    for subject, content in whole.items():
        places.append(Place(OBJECTS, f"{name} {subject}", bytes(content)))
        unpacked = await asyncio.to_thread(unbundled, bytes(content), stack.folder.root)
        places += [Place(OBJECTS, f"{name} {subject}: {what}", text) for what, text in unpacked]
    return places
