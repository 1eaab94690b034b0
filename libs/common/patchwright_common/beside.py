"""Work that goes on beside something else, and how it is ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

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
        await cancel_until_done(task)


async def cancel_until_done(
    *tasks: asyncio.Future[Any], patience: float = 1.0, times: int | None = None
) -> None:
    """Cancel until all have ended, every `patience` seconds anew; at most that many `times`.

    Once is not enough. In Python 3.11 `asyncio.wait_for`, by which nats-py waits for every answer,
    loses a cancellation that comes with the answer (https://github.com/python/cpython/issues/86296),
    and nats-py loses one while its buffers are full: a loop around them would go on for ever, and
    so would whoever waits for its end. What they raised is not looked at.
    """
    left = set(tasks)
    while left and times != 0:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=patience)
        times = None if times is None else times - 1


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
