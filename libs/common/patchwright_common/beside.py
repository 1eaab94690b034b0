"""Work that is done again and again beside something else, and that nothing ends but its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from patchwright_common.errors import Retry

log = logging.getLogger(__name__)


@asynccontextmanager
async def repeated(
    work: Callable[[], Awaitable[object]], *, pause: float, what: str, at_once: bool = False
) -> AsyncIterator[None]:
    """Do `work` every `pause` seconds for as long as the context lasts.

    What it raises is logged, after "not" and `what` ("swept"): whoever relies on it being done
    again is not told that it once could not be.
    """
    task = asyncio.create_task(_repeat(work, pause, what, at_once))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _repeat(
    work: Callable[[], Awaitable[object]], pause: float, what: str, at_once: bool
) -> None:
    if not at_once:
        await asyncio.sleep(pause)
    while True:
        try:
            await work()
        except Retry as error:
            log.warning("not %s: %s", what, error.reason)
        except Exception:
            log.exception("not %s", what)
        await asyncio.sleep(pause)
