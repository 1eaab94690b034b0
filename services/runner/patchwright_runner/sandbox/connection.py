"""The runner's end of a box: requests out, answers in, nothing believed beyond its size."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from patchwright_common.errors import Permanent
from patchwright_runner.sandbox.inside import wire
from patchwright_runner.sandbox.inside.wire import Frame
from patchwright_runner.sandbox.protocol import BoxLost, ToolError

_WAITING_FRAMES = 8
"""Of at most 1 MiB each from a box that keeps to the protocol: the bound on our memory."""
_ERRORS_KEPT = 4096
_LAST_WORDS_SECONDS = 1.0

_FAILURES: dict[str, type[Exception]] = {"tool": ToolError, "git": Permanent, "box": BoxLost}


class Request:
    """The answers to one request, as they arrive."""

    def __init__(self, connection: Connection, beside: Callable[[Frame], None]) -> None:
        self._connection = connection
        self.beside = beside
        """Takes what is no answer. Never waits; raises ValueError where it makes no sense."""
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue(_WAITING_FRAMES)
        self.done = False

    async def next(self) -> Frame:
        """The next item, or the result; raises what the box says went wrong."""
        if self._connection.lost is None or not self._frames.empty():
            frame = await self._frames.get()
            if frame is not None:
                self.done = "item" not in frame.header
                return _checked(frame)
        raise BoxLost(self._connection.lost or "The sandbox is gone.")

    async def deliver(self, frame: Frame) -> None:
        """Waits when the consumer does not keep up, which holds the box back."""
        await self._frames.put(frame)

    def abandon(self) -> None:
        """Make room, so that a waiting `deliver` goes on, and wake whoever waits for more."""
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(None)


class Connection:
    """Matches answers to requests over a child process' standard input and output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.lost: str | None = None
        """Why the box cannot be used any more."""
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("a box is reached by pipes")
        self._input, self._output, self._stderr = process.stdin, process.stdout, process.stderr
        self._requests: dict[int, Request] = {}
        self._last = 0
        self._errors = b""
        self._complaining = asyncio.create_task(self._complaints())
        self._reading = asyncio.create_task(self._read())

    async def greet(self, program: bytes) -> Frame:
        """Send the box its program; its first answer says that it is confined and ready."""
        request = self._requests[0] = Request(self, _nobody_asked)
        self._write(program)
        try:
            return await request.next()
        finally:
            del self._requests[0]

    @contextmanager
    def request(
        self,
        header: dict[str, Any],
        payload: bytes = b"",
        beside: Callable[[Frame], None] | None = None,
    ) -> Iterator[Request]:
        """Ask the box something; leaving before the result has come cancels it there."""
        self._last += 1
        number = self._last
        request = self._requests[number] = Request(self, beside or _nobody_asked)
        try:
            self._write(wire.pack({**header, "id": number}, payload))
            yield request
        finally:
            del self._requests[number]
            request.abandon()
            if not request.done and self.lost is None:
                self._write(wire.pack({"cancel": number}))

    async def tell(self, header: dict[str, Any], payload: bytes) -> None:
        """Something about the newest request, as soon as the pipe has room for it."""
        data = wire.pack({**header, "beside": self._last}, payload)
        try:
            await self._input.drain()
        except ConnectionError as error:
            raise BoxLost(self.lost or "The sandbox is gone.") from error
        self._write(data)

    async def close(self) -> None:
        """Closing its input ends a box that is well."""
        self._lose("The sandbox was closed.")
        self._input.close()
        for task in (self._reading, self._complaining):
            task.cancel()
        await asyncio.gather(self._reading, self._complaining, return_exceptions=True)

    def _write(self, data: bytes) -> None:
        if self.lost is not None:
            raise BoxLost(self.lost)
        self._input.write(data)

    def _lose(self, reason: str) -> None:
        self.lost = self.lost or reason
        for request in self._requests.values():
            request.abandon()

    async def _read(self) -> None:
        """Deliver frames until the box ends or says something that makes no sense."""
        reason = "The sandbox ended unexpectedly"
        try:
            while True:
                frame = await self._frame()
                request = self._requests.get(frame.header.get("id", -1))
                if request is not None and {"stream", "output"} & frame.header.keys():
                    request.beside(frame)
                elif request is not None:
                    await request.deliver(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            await asyncio.wait([self._complaining], timeout=_LAST_WORDS_SECONDS)
        except (LookupError, ValueError, AttributeError, TypeError, RecursionError) as error:
            reason = f"The sandbox broke the protocol ({error})"
        said = self._errors.decode(errors="replace").strip()
        self._lose(f"{reason}: {said[-500:]}" if said else f"{reason}.")

    async def _frame(self) -> Frame:
        lengths = await self._output.readexactly(wire.LENGTHS.size)
        header, payload = wire.LENGTHS.unpack(lengths)
        if header > wire.HEADER_LIMIT or payload > wire.PAYLOAD_LIMIT:
            raise ValueError("a frame over the limit")
        text = await self._output.readexactly(header)
        return Frame(json.loads(text), await self._output.readexactly(payload))

    async def _complaints(self) -> None:
        """The end of what box and engine write to standard error, for our own error texts."""
        while data := await self._stderr.read(_ERRORS_KEPT):
            self._errors = (self._errors + data)[-_ERRORS_KEPT:]


def _nobody_asked(_frame: Frame) -> None:
    raise ValueError("an answer that nobody asked for")


def _checked(frame: Frame) -> Frame:
    if "error" in frame.header:
        failure = _FAILURES.get(frame.header.get("kind", ""), BoxLost)
        raise failure(str(frame.header["error"]))
    return frame
