"""Locks on files, between tasks and processes; the kernel frees one with its last holder."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

_POLL_SECONDS = 0.05


@asynccontextmanager
async def locked(path: Path, *, shared: bool = False) -> AsyncIterator[int]:
    """Wait for the lock; the descriptor that holds it, for children who shall hold it too."""
    descriptor = _open(path)
    try:
        while not _lock(descriptor, shared=shared):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def locked_at_once(path: Path) -> Iterator[int | None]:
    """The exclusive lock's descriptor, or None when anybody has it."""
    descriptor = _open(path)
    try:
        yield descriptor if _lock(descriptor, shared=False) else None
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, *, shared: bool) -> bool:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
