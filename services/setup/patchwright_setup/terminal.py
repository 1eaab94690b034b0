"""Enter in the terminal makes a new link. Without a terminal there is nothing to watch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from types import TracebackType


class Terminal:
    """Calls `pressed` at each line, for as long as the context lasts."""

    def __init__(self, pressed: Callable[[], None]) -> None:
        self._pressed = pressed
        self._file = -1

    def __enter__(self) -> None:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if sys.stdin.isatty():
                self._file = sys.stdin.fileno()
                asyncio.get_running_loop().add_reader(self._file, self._read)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _read(self) -> None:
        try:
            # A process in the background would be stopped by the attempt to read.
            line = os.read(self._file, 4096) if self._in_front() else b""
        except OSError:
            line = b""
        if line:
            self._pressed()
        else:
            self._stop()

    def _in_front(self) -> bool:
        return os.tcgetpgrp(self._file) == os.getpgrp()

    def _stop(self) -> None:
        if self._file >= 0:
            asyncio.get_running_loop().remove_reader(self._file)
            self._file = -1
