"""What goes on in the runner while a command runs in the box: its doors, and whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from patchwright_runner.sandbox.inside.doors import WINDOW
from patchwright_runner.sandbox.inside.wire import Frame
from patchwright_runner.sandbox.tunnels import Send, Tunnels

_AT_THE_END = 2 * 1024 * 1024
"""What was in the command's pipe when it ended comes without asking; no pipe holds more."""

Heard = Callable[[bytes], Awaitable[None]]


class Beside:
    """Takes the frames of one command that are not its result."""

    def __init__(self, doors: Mapping[int, Path], heard: Heard | None, tell: Send) -> None:
        self._tell = tell
        self._tunnels = Tunnels(doors, tell)
        self._heard = heard
        self._said = bytearray()
        self._news = asyncio.Event()
        self._unheard = 0
        self._answered = False

    def take(self, frame: Frame) -> None:
        """Never waits; raises ValueError for what the box may not send."""
        if "stream" in frame.header:
            self._tunnels.take(frame)
            return
        self._unheard += len(frame.payload)
        if not frame.payload or self._heard is None or self._unheard > WINDOW + _AT_THE_END:
            raise ValueError("output that nobody asked for")
        self._said += frame.payload
        self._news.set()

    async def until(self, answer: Awaitable[Frame]) -> Frame:
        """The answer, when all that came before it was heard. Raises what `heard` raises."""
        hearing = asyncio.create_task(self._hear())
        answering = asyncio.ensure_future(answer)
        try:
            await asyncio.wait((hearing, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                await hearing  # it has failed: nothing else ends it before
            frame = answering.result()
            self._answered = True
            self._news.set()
            await hearing
            return frame
        finally:
            for task in (hearing, answering):
                task.cancel()
            # First, because whoever hears may take long to end.
            await self._tunnels.close()
            await asyncio.wait((hearing, answering))

    async def _hear(self) -> None:
        while self._said or not self._answered:
            await self._news.wait()
            self._news.clear()
            piece = bytes(self._said)
            self._said.clear()
            if piece and self._heard is not None:
                await self._heard(piece)
                self._unheard -= len(piece)
                await self._grant(len(piece))

    async def _grant(self, count: int) -> None:
        if not self._answered:
            await self._tell({"output": count}, b"")
