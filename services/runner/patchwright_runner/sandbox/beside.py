"""What goes on in the runner while a command runs in the box: its doors, and whoever listens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from patchwright_runner.sandbox.inside.doors import WINDOW
from patchwright_runner.sandbox.inside.wire import Frame
from patchwright_runner.sandbox.protocol import BoxLost
from patchwright_runner.sandbox.tunnels import Tunnels

_AT_THE_END = 2 * 1024 * 1024
"""What was in the command's pipe when it ended comes without asking; no pipe holds more."""

Heard = Callable[[bytes], Awaitable[None]]


class Beside:
    """Takes the frames of one command that are not its result."""

    def __init__(
        self, doors: Mapping[int, Path], heard: Heard | None, tell: Callable[..., None]
    ) -> None:
        self._tell = tell
        self._tunnels = Tunnels(doors, self._say)
        self._heard = heard
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._unheard = 0

    def take(self, frame: Frame) -> None:
        """Never waits; raises ValueError for what the box may not send."""
        if "stream" in frame.header:
            self._tunnels.take(frame)
            return
        self._unheard += len(frame.payload)
        if not frame.payload or self._heard is None or self._unheard > WINDOW + _AT_THE_END:
            raise ValueError("output that nobody asked for")
        self._pieces.put_nowait(frame.payload)

    async def until(self, answer: Awaitable[Frame]) -> Frame:
        """The answer, when all that came before it was heard. Raises what `heard` raises."""
        hearing = asyncio.create_task(self._hear())
        answering = asyncio.ensure_future(answer)
        try:
            await asyncio.wait((hearing, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                await hearing  # it has failed: nothing else ends it before
            frame = answering.result()
            self._pieces.put_nowait(b"")
            await hearing
            return frame
        finally:
            for task in (hearing, answering):
                task.cancel()
            await asyncio.wait((hearing, answering))
            await self._tunnels.close()

    async def _hear(self) -> None:
        while piece := await self._pieces.get():
            if self._heard is not None:
                await self._heard(piece)
            self._unheard -= len(piece)
            self._say({"output": len(piece)}, b"")

    def _say(self, header: dict[str, Any], payload: bytes) -> None:
        # A box that is gone is told by its request.
        with contextlib.suppress(BoxLost):
            self._tell(header, payload)
