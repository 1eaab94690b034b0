"""What befalls a process: each exchange with the outside goes through `exchange`.

A fate can end the process that makes the exchange, before or after its effect, let the answer
be lost, or hold the process up until somebody wakes it, perhaps to another fate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


class Killed(BaseException):
    """The process is gone: nothing that it does any more has an effect."""


class Broken(BaseException):
    """A law is broken, or the model lacks something; no handler may swallow that."""


def must(holds: bool, law: str) -> None:
    """Raises `Broken`."""
    if not holds:
        raise Broken(law)


class Loud:
    """What stands for something real says what it lacks, instead of looking like an outage."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Broken(f"tests/life: {type(self).__name__} has no `{name}` yet")


@dataclass
class Fate:
    """What happens to a process at one of its exchanges, and nothing ever after."""

    kind: str = "none"
    """`none`, `killed before`, `killed after`, `unanswered`, `away` or `paused`."""
    of: str = ""
    """Counts only exchanges whose name begins so: `acknowledge`, `publish`, `update outcome`."""
    at: int = 1
    """Which of them, from 1."""
    dead: bool = False
    asleep: bool = False
    seen: int = 0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def strikes(self, name: str) -> bool:
        """Whether it is now."""
        self.seen += name.startswith(self.of)
        return self.kind != "none" and name.startswith(self.of) and self.seen == self.at

    def die(self) -> Killed:
        self.dead = True
        return Killed()

    async def sleep(self) -> None:
        self.asleep = True
        await self._wake.wait()

    def wake(self, then: Fate) -> None:
        """Go on, with `then` before it."""
        self.kind, self.of, self.at, self.seen = then.kind, then.of, then.at, 0
        self.asleep = False
        self._wake.set()
        self._wake = asyncio.Event()


FATE: ContextVar[Fate] = ContextVar("FATE")


async def exchange(name: str, effect: Callable[[], T], *, lost: Callable[[], BaseException]) -> T:
    """Do `effect` as one exchange with the outside; `lost` makes the error of a lost answer."""
    fate = FATE.get()
    if fate.dead:
        raise Killed
    if not fate.strikes(name):
        return effect()
    kind = fate.kind
    fate.kind = "none"
    if kind == "paused":
        await fate.sleep()
        # Its next fate may be to never get beyond this.
        return await exchange(name, effect, lost=lost)
    if kind == "killed before":
        raise fate.die()
    if kind == "away":
        raise lost()
    effect()
    if kind == "killed after":
        raise fate.die()
    assert kind == "unanswered", kind
    raise lost()
