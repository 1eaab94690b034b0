"""Blocking calls of one library, in one thread of their own, each with a time limit."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from patchwright_common.errors import Retry

Result = TypeVar("Result")


class Thread:
    """One call after the other. The thread starts with the first call.

    A daemon, unlike those of an executor: a call that never comes back must not keep the
    process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._started = False

    async def run(self, call: Callable[[], Result], *, timeout: float) -> Result:
        """Its result. Raises `Retry` after `timeout` seconds; a call not begun by then never is."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        future: Future[Result] = Future()
        self._calls.put((future, call))
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Retry(f"{self._name} did not answer in {timeout:g} s") from None

    def _work(self) -> None:
        while True:
            future, call = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  the one who waits is told
                future.set_exception(error)
            del future, call  # nothing secret is kept until the next call comes
