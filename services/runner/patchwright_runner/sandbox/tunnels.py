"""The runner's end of a command's doors: each connection from the box to a socket of ours.

The rules are those of `inside/doors.py`, and here they are enforced: whatever the box sends
against them raises ValueError, which ends the box. Memory is bounded by the windows, and by
waiting for the pipe to the box before more is read for it: a box may not read at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from patchwright_runner.sandbox.inside.doors import STREAMS, WINDOW
from patchwright_runner.sandbox.inside.wire import Frame
from patchwright_runner.sandbox.protocol import BoxLost

_CONNECT_SECONDS = 10.0
_CHUNK = 1 << 16
_GRANT = WINDOW // 4
"""Credit is given back in sums, not for every piece."""

Send = Callable[[dict[str, Any], bytes], Awaitable[None]]
"""Waits until the pipe to the box has room, then writes a frame; raises BoxLost."""

log = logging.getLogger(__name__)


class Tunnels:
    """All connections through the doors of one command."""

    def __init__(self, doors: Mapping[int, Path], send: Send) -> None:
        self._doors = doors
        self._send = send
        self._streams: dict[int, _Stream] = {}
        self._attending: set[asyncio.Task[None]] = set()
        self._last = 0
        self._closed = False

    def take(self, frame: Frame) -> None:
        """One frame of the box. Never waits."""
        if self._closed:
            return  # the command has ended, and this was under way
        number, what = frame.header["stream"], frame.header["do"]
        if what == "open":
            self._open(number, frame.header["port"])
            return
        stream = self._streams.get(number)
        if stream is None:
            raise ValueError("a connection that is not open")
        stream.take(what, frame)
        if stream.finished:
            del self._streams[number]

    async def close(self) -> None:
        """End all of them; the command has ended, and the box needs no word about it."""
        self._closed = True
        tasks = [*self._attending, *(stream.carrying for stream in self._streams.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self, number: object, port: object) -> None:
        path = self._doors.get(port) if isinstance(port, int) else None
        if number != self._last + 1 or path is None:
            raise ValueError("a door that is not there")
        if len(self._streams) >= STREAMS:
            raise ValueError("more connections than may be")
        self._last += 1
        stream = self._streams[self._last] = _Stream(self._last, path, self._send)
        task = asyncio.create_task(self._attend(stream))
        self._attending.add(task)
        task.add_done_callback(self._attending.discard)

    async def _attend(self, stream: _Stream) -> None:
        """However a connection ends, the box hears of it, and only then is its place free."""
        await asyncio.wait([stream.carrying])
        with suppress(BoxLost):
            await stream.close()
        if stream.finished:
            del self._streams[stream.number]


class _Stream:
    """One connection: what the box sent waits here for our socket, at most a window of it."""

    def __init__(self, number: int, path: Path, send: Send) -> None:
        self.number = number
        self._send = send
        self._incoming = bytearray()
        self._arrived = asyncio.Event()
        self._room = WINDOW
        self._credit = WINDOW
        self._granted = asyncio.Event()
        self._ended = self._box_ended = False
        self._closed = self._box_closed = False
        self.carrying = asyncio.create_task(self._carry(path))

    @property
    def finished(self) -> bool:
        """Both sides have said their last word."""
        return self._closed and self._box_closed

    async def close(self) -> None:
        """Our last word."""
        await self._tell("close")
        self._closed = True

    def take(self, what: object, frame: Frame) -> None:
        if self._box_closed:
            raise ValueError("a word after the last one")
        if what == "data":
            self._receive(frame.payload)
        elif what == "credit":
            self._grant(frame.header["bytes"])
        elif what == "end" and not self._box_ended:
            self._box_ended = True
            self._arrived.set()
        elif what == "close":
            self._box_closed = True
            if not (self._ended and self._box_ended):
                self.carrying.cancel()  # the client broke it off
        else:
            raise ValueError("a frame that makes no sense")

    def _receive(self, data: bytes) -> None:
        self._room -= len(data)
        if self._box_ended or not data or self._room < 0:
            raise ValueError("data that may not be sent")
        if not self.carrying.done():
            self._incoming += data
            self._arrived.set()

    def _grant(self, count: Any) -> None:
        if not isinstance(count, int) or not 0 < count <= WINDOW - self._credit:
            raise ValueError("credit for what was not sent")
        self._credit += count
        self._granted.set()

    async def _carry(self, path: Path) -> None:
        """To the end of both directions, or until one of them breaks."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path, limit=_CHUNK)
            # Draining then means that the kernel has it all, at the end too.
            writer.transport.set_write_buffer_limits(0)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._inwards(writer))
                both.create_task(self._outwards(reader))
        except* (OSError, BoxLost) as broken:  # TimeoutError is an OSError
            log.info("a connection to %s broke: %s", path, broken.exceptions[0])
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _inwards(self, writer: asyncio.StreamWriter) -> None:
        """From the box to our socket."""
        taken = 0
        while self._incoming or not self._box_ended:
            await self._arrived.wait()
            self._arrived.clear()
            data, self._incoming = self._incoming, bytearray()
            writer.write(data)
            await writer.drain()
            taken += len(data)
            if taken >= _GRANT:
                self._room += taken
                await self._tell("credit", bytes=taken)
                taken = 0
        writer.write_eof()

    async def _outwards(self, reader: asyncio.StreamReader) -> None:
        """From our socket to the box."""
        while data := await reader.read(min(_CHUNK, await self._credited())):
            self._credit -= len(data)
            await self._tell("data", data)
        await self._tell("end")
        self._ended = True

    async def _credited(self) -> int:
        while self._credit <= 0:
            self._granted.clear()
            await self._granted.wait()
        return self._credit

    async def _tell(self, what: str, data: bytes = b"", **more: int) -> None:
        await self._send({"stream": self.number, "do": what, **more}, data)
