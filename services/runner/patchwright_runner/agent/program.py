"""Somebody else's program at work in the sandbox, with the model behind a door.

The door leads to a gateway that adds the key, holds the budget and counts. The program gets an
address on its own loopback and a word in the key's place.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from patchwright_common.errors import Permanent, Retry
from patchwright_runner.agent.hidden_text import one_line
from patchwright_runner.agent.limits import out_of_time
from patchwright_runner.agent.protocol import Budget, Usage
from patchwright_runner.sandbox.protocol import Result, Sandbox

DOOR_PORT = 41707
NO_KEY = "the-gateway-adds-the-key"
PIECE = 512 * 1024
"""A command and its input hold at most twice that."""
FILE_SECONDS = 60.0
"""For writing or reading one file in the box."""
INPUT = "/tmp/patchwright-input"  # noqa: S108 - in the sandbox
MODEL_ENVIRONMENT: Mapping[str, str] = {
    "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{DOOR_PORT}",
    "ANTHROPIC_API_KEY": NO_KEY,
}
"""As Anthropic's clients, and most programs that use them, look for their server."""


class Exchange(Protocol):
    """One request to the model that is over."""

    @property
    def usage(self) -> Usage:
        """What it cost."""
        ...

    @property
    def seconds(self) -> float:
        """How long it took."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the reply came to its end."""
        ...


Finished = Callable[[Exchange], Awaitable[None]]


class ModelDoor(Protocol):
    """A job's own way to the model, with what was spent on it."""

    @property
    def usage(self) -> Usage:
        """Of this attempt at the job."""
        ...

    @property
    def verdict(self) -> Exception | None:
        """Why nothing more is let through."""
        ...

    @property
    def fault(self) -> Permanent | Retry | None:
        """What the model's server answered last instead of a reply."""
        ...

    async def stopped(self) -> Exception:
        """Wait for the verdict."""
        ...

    def serving(self) -> AbstractAsyncContextManager[Path]:
        """The socket behind the door; again and again, for one run of the program each."""
        ...


class OpenDoor(Protocol):
    """Makes the door of one attempt."""

    def __call__(self, *, turns: int, finished: Finished | None = None) -> ModelDoor:
        """For an attempt that continues earlier ones after so many turns.

        `finished` hears of each exchange, and what it raises is the verdict.
        """
        ...


async def deliver(sandbox: Sandbox, path: str, data: bytes) -> None:
    """Write a file in the box, in pieces that fit into a command's input."""
    for at in range(0, max(len(data), 1), PIECE):
        sign = ">>" if at else ">"
        command = f"cat {sign} {shlex.quote(path)}"
        piece = data[at : at + PIECE]
        result = await sandbox.run(command, timeout=FILE_SECONDS, stdin=piece)
        if result.exit_code != 0:
            said = one_line(result.output, 200)
            raise Permanent(f"The task could not be written into the sandbox: {said}")


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and what it gets."""

    command: str
    stdin: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)
    heard: Callable[[bytes], Awaitable[None]] | None = None


class Supervisor:
    """Runs one order after the other, within the seconds of one budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._used = 0.0

    async def run(self, sandbox: Sandbox, door: ModelDoor, order: Order) -> Result:
        """Raises the door's verdict, what `heard` raised, or Permanent when the time is up."""
        left = self._budget.seconds - self._used
        if left <= 0:
            raise out_of_time(self._budget)
        began = time.monotonic()
        order = await _fitting(sandbox, order)
        try:
            async with door.serving() as socket:
                result = await _until_stopped(
                    door,
                    sandbox.run(
                        order.command,
                        timeout=left,
                        stdin=order.stdin,
                        environment={**MODEL_ENVIRONMENT, **order.environment},
                        doors={DOOR_PORT: socket},
                        heard=order.heard,
                    ),
                )
        finally:
            self._used += time.monotonic() - began
        if door.verdict is not None:
            raise door.verdict
        if result.timed_out:
            raise out_of_time(self._budget)
        return result


async def _fitting(sandbox: Sandbox, order: Order) -> Order:
    """What does not fit into a command's input comes from a file."""
    if len(order.stdin) <= PIECE:
        return order
    await deliver(sandbox, INPUT, order.stdin)
    return replace(order, command=f"exec < {INPUT}\n{order.command}", stdin=b"")


async def _until_stopped(door: ModelDoor, running: Awaitable[Result]) -> Result:
    """A verdict ends the program: whatever it does now, it cannot ask the model any more."""
    work = asyncio.ensure_future(running)
    stop = asyncio.ensure_future(door.stopped())
    try:
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise stop.result()
        return work.result()
    finally:
        work.cancel()
        stop.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)
