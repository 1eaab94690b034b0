"""The Sandbox protocol over a connection to a box, whichever way that box was started."""

# ruff: noqa: D102 - the methods are documented in protocol.py

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from patchwright_common.errors import Permanent
from patchwright_runner.sandbox.beside import Beside
from patchwright_runner.sandbox.connection import Connection, Request
from patchwright_runner.sandbox.entries import Assembly
from patchwright_runner.sandbox.inside.wire import PAYLOAD_LIMIT, Frame
from patchwright_runner.sandbox.protocol import (
    NO_DOORS,
    NOTHING,
    BoxLost,
    BoxSpec,
    Entry,
    Result,
    ToolError,
)

_EDIT_SECONDS = 30.0
_TREE_SECONDS = 300.0
_PIECE = 1 << 20
_PIECE_SECONDS = 60.0
_MARGIN_SECONDS = 15.0
"""What a command may take beyond its own limit: a grace period, a machine under load."""


class RemoteBox:
    """One running box; `destroy` removes whatever its backend made for it."""

    def __init__(
        self, connection: Connection, spec: BoxSpec, destroy: Callable[[], Awaitable[None]]
    ) -> None:
        self._connection = connection
        self._limits = spec.limits
        self._destroy = destroy
        self._turn = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self.used = False
        """Whether a command or a file tool has run in it."""
        self.prepared = ""
        """The environment that was restored in it, for whoever keeps them."""

    async def run(
        self,
        command: str,
        *,
        timeout: float,
        stdin: bytes = b"",
        environment: Mapping[str, str] = NOTHING,
        doors: Mapping[int, Path] = NO_DOORS,
        heard: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> Result:
        if any(not 1024 <= port < 65536 for port in doors):
            raise ValueError("a door is a port that an ordinary user may have")
        payload = _encoded(command) + stdin
        if len(payload) > PAYLOAD_LIMIT:
            raise ToolError(f"A command and its input hold at most {PAYLOAD_LIMIT} bytes.")
        header = {
            "op": "run",
            "timeout": timeout,
            "stdin": len(stdin),
            "environment": dict(environment),
            "doors": sorted(doors),
            "heard": heard is not None,
        }
        self.used = True
        beside = Beside(doors, heard, self._connection.tell)
        async with self._turn:
            with self._connection.request(header, payload, beside.take) as request:
                frame = await beside.until(self._next(request, timeout + _MARGIN_SECONDS))
        return self._result(frame)

    async def view(self, path: str, view_range: tuple[int, int] | None = None) -> str:
        return await self._edit("view", path, range=view_range and list(view_range))

    async def create(self, path: str, text: str) -> str:
        return await self._edit("create", path, text)

    async def str_replace(self, path: str, old: str, new: str) -> str:
        return await self._edit("str_replace", path, old, new)

    async def insert(self, path: str, line: int, text: str) -> str:
        return await self._edit("insert", path, text, line=line)

    async def checkout(self, base: str) -> None:
        await self._call({"op": "checkout", "base": base}, b"", _TREE_SECONDS)

    async def restore(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            header = {"op": "restore", "path": entry.path, "mode": entry.mode}
            for at in range(0, max(len(entry.content), 1), _PIECE):
                piece = entry.content[at : at + _PIECE]
                await self._call({**header, "at": at}, piece, _EDIT_SECONDS)

    async def collect(self, base: str, *, quick: bool = False) -> AsyncIterator[Entry]:
        most = self._limits.changed_bytes
        header = {"op": "collect", "base": base, "most": most, "quick": quick}
        end = asyncio.get_running_loop().time() + _TREE_SECONDS
        async with self._turn:
            with self._connection.request(header) as request:
                assembly = Assembly(self._limits)
                while True:
                    try:
                        async with asyncio.timeout_at(end):
                            frame = await request.next()
                    except TimeoutError as error:
                        raise Permanent("The change could not be collected in time.") from error
                    if request.done:
                        return
                    entry = assembly.add(frame.header["item"], frame.payload)
                    if entry is not None:
                        yield entry

    async def pack(self, most: int) -> AsyncIterator[bytes]:
        """Pieces of a tar stream: what git does not track in the workspace, and the home.

        Raises ToolError when it is more than `most` bytes, or cannot be read.
        """
        async with self._turn:
            with self._connection.request({"op": "pack", "most": most}) as request:
                while not request.done:
                    frame = await self._next(request, _PIECE_SECONDS)
                    most -= len(frame.payload)
                    if most < 0:
                        raise BoxLost("The sandbox sent more than it may.")
                    if frame.payload:
                        yield frame.payload

    async def unpack(self, pieces: AsyncIterator[bytes]) -> None:
        """Put such a stream into this box; raises ToolError when the box refuses it."""
        async with self._turn:
            with self._connection.request({"op": "unpack"}) as request:
                while not request.done:
                    frame = await self._next(request, _PIECE_SECONDS)
                    if frame.header.get("item") == {"want": True}:
                        await request.feed(await anext(pieces, b""))

    async def close(self) -> None:
        """Idempotent, and finished even when the caller is cancelled meanwhile."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _close(self) -> None:
        await self._connection.close()
        await self._destroy()

    async def _edit(self, tool: str, *texts: str, **rest: Any) -> str:
        header = {"op": "edit", "tool": tool, "lengths": [len(text) for text in texts], **rest}
        frame = await self._call(header, _encoded("".join(texts)), _EDIT_SECONDS)
        return frame.payload.decode(errors="replace")

    async def _call(self, header: dict[str, Any], payload: bytes, seconds: float) -> Frame:
        self.used = self.used or header["op"] == "edit"
        async with self._turn:
            with self._connection.request(header, payload) as request:
                return await self._next(request, seconds)

    async def _next(self, request: Request, seconds: float) -> Frame:
        try:
            async with asyncio.timeout(seconds):
                return await request.next()
        except TimeoutError as error:
            await self.close()
            raise BoxLost("The sandbox did not answer in time.") from error

    def _result(self, frame: Frame) -> Result:
        if len(frame.payload) > self._limits.output_bytes + 1:
            raise BoxLost("The sandbox sent more output than it may.")
        try:
            about: dict[str, Any] = frame.header["result"]
            code, dropped = about["exit_code"], int(about["dropped"])
            return Result(
                output=_joined(frame.payload, int(about["head"]), dropped),
                exit_code=None if code is None else int(code),
                truncated=dropped > 0,
                timed_out=bool(about["timed_out"]),
                duration=float(about["duration"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BoxLost("The sandbox gave an answer that makes no sense.") from error


def _encoded(text: str) -> bytes:
    """What a model writes may hold lone surrogates, which no encoding takes."""
    return text.encode(errors="replace")


def _joined(output: bytes, head: int, dropped: int) -> str:
    if not dropped:
        return output.decode(errors="replace")
    first, last = output[:head].decode(errors="replace"), output[head:].decode(errors="replace")
    return f"{first}\n[… {dropped} bytes left out …]\n{last}"
