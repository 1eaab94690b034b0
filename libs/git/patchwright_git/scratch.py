"""Temporary folders that a janitor can tell from those of the dead: each is locked while in use."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

from patchwright_common.beside import repeated

_PREFIX = "patchwright-run-"
_FRESH_SECONDS = 10.0
"""One that is younger may be about to be locked."""
PAUSE = 15.0
"""Seconds between two sweeps."""
_SOCKET_FOLDER_BYTES = 90
"""A UNIX socket's path has 107 bytes at most."""
_SHORT = "/tmp"  # noqa: S108 - private folders are made in it

log = logging.getLogger(__name__)


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A folder that nobody else on this machine can look into, short enough for sockets."""
    place = tempfile.gettempdir()
    if len(place) + len(_PREFIX) + len(what) + 10 > _SOCKET_FOLDER_BYTES:
        place = _SHORT
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{what}-", dir=place) as name:
        folder = _held(name)
        try:
            yield Path(name)
        finally:
            if folder is not None:
                os.close(folder)


def swept(*, pause: float = PAUSE) -> AbstractAsyncContextManager[None]:
    """Sweep at once and then now and then, for as long as the context lasts.

    Once is not enough: what a process left that was killed a moment ago is too fresh when the
    next one starts.
    """

    async def work() -> None:
        if removed := await asyncio.to_thread(sweep):
            log.info("removed what an earlier crash left: %d folders", removed)

    return repeated(work, pause=pause, what="swept (temporary folders)", at_once=True)


def sweep() -> int:
    """Remove what processes left that were killed; how many folders."""
    removed = 0
    for place in {tempfile.gettempdir(), _SHORT}:
        for left in Path(place).glob(f"{_PREFIX}*"):
            removed += _removed(left)
    return removed


def _removed(left: Path) -> bool:
    try:
        if left.lstat().st_mtime > time.time() - _FRESH_SECONDS or left.is_symlink():
            return False
        folder = _held(str(left))
    except OSError:  # it has gone, or is somebody else's
        return False
    if folder is None:
        return False
    shutil.rmtree(left, ignore_errors=True)
    os.close(folder)
    return True


def _held(name: str) -> int | None:
    """The descriptor of the folder that holds its lock, until it is closed or we die."""
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        return None
    return folder
