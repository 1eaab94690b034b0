"""The runner's end of a command's doors: each connection from the box to a socket of ours.

The rules are those of `inside/doors.py`, and here they are enforced: whatever the box sends
against them raises ValueError, which ends the box. Memory is bounded by the windows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from patchwright_runner.sandbox.inside.doors import STREAMS, WINDOW
from patchwright_runner.sandbox.inside.wire import Frame

_CONNECT_SECONDS = 10.0
_CHUNK = 1 << 16

Send = Callable[[dict[str, Any], bytes], None]


class Tunnels:
    """All connections through the doors of one command."""

    def __init__(self, doors: Mapping[int, Path], send: Send) -> None:
        self._doors = doors
        self._send = send
        self._streams: dict[int, _Stream] = {}
        self._last = 0

    def take(self, frame: Frame) -> None:
        """One frame of the box. Never waits."""
        number, what = frame.header["stream"], frame.header["do"]
        if what == "open":
            self._open(number, frame.header["port"])
            return
        if not isinstance(number, int) or not 0 < number <= self._last:
            raise ValueError("a connection that was not opened")
        stream = self._streams.get(number)
        if stream is not None:  # else it ended on our side, and this was under way
            stream.take(what, frame)

    async def close(self) -> None:
        """End all of them; the command has ended."""
        tasks = [stream.carrying for stream in self._streams.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self, number: object, port: object) -> None:
        path = self._doors.get(port) if isinstance(port, int) else None
        if number != self._last + 1 or path is None:
            raise ValueError("a door that is not there")
        self._last += 1
        if len(self._streams) >= 2 * STREAMS:  # some may be done in the box and not yet here
            self._send({"stream": self._last, "do": "reset"}, b"")
            return
        stream = self._streams[self._last] = _Stream(self._last, path, self._send)
        stream.carrying.add_done_callback(lambda _task: self._streams.pop(stream.number, None))


class _Stream:
    """One connection: what the box sent waits here for our socket, at most a window of it."""

    def __init__(self, number: int, path: Path, send: Send) -> None:
        self.number = number
        self._send = send
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self._held = 0
        self._ended = False
        self._credit = WINDOW
        self._more_credit = asyncio.Event()
        self.carrying = asyncio.create_task(self._carry(path))

    def take(self, what: object, frame: Frame) -> None:
        if what == "data":
            self._held += len(frame.payload)
            if self._ended or not frame.payload or self._held > WINDOW:
                raise ValueError("data that may not be sent")
            self._incoming.put_nowait(frame.payload)
        elif what == "end" and not self._ended:
            self._ended = True
            self._incoming.put_nowait(b"")
        elif what == "credit":
            count = frame.header["bytes"]
            if not isinstance(count, int) or not 0 < count <= WINDOW - self._credit:
                raise ValueError("credit for what was not sent")
            self._credit += count
            self._more_credit.set()
        elif what == "reset":
            self.carrying.cancel()
        else:
            raise ValueError("a frame that makes no sense")

    async def _carry(self, path: Path) -> None:
        """To the end of both directions, or a reset for the client where one of them breaks."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path, limit=_CHUNK)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._inwards(writer))
                both.create_task(self._outwards(reader))
        except* OSError:  # TimeoutError is one
            self._tell("reset")
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _inwards(self, writer: asyncio.StreamWriter) -> None:
        """From the box to our socket."""
        while data := await self._incoming.get():
            writer.write(data)
            await writer.drain()
            self._held -= len(data)
            self._tell("credit", bytes=len(data))
        if writer.can_write_eof():
            writer.write_eof()

    async def _outwards(self, reader: asyncio.StreamReader) -> None:
        """From our socket to the box."""
        while data := await reader.read(min(_CHUNK, await self._credited())):
            self._credit -= len(data)
            self._tell("data", data)
        self._tell("end")

    async def _credited(self) -> int:
        while self._credit <= 0:
            self._more_credit.clear()
            await self._more_credit.wait()
        return self._credit

    def _tell(self, what: str, data: bytes = b"", **more: int) -> None:
        self._send({"stream": self.number, "do": what, **more}, data)
