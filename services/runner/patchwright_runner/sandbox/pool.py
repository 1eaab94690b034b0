"""Boxes that wait for their job: started, and checked out, before anybody asks for them.

A waiting box has seen the runner's own git and nothing else: no command of an agent, no file
of another repository. It is given away once, to a job that asks for the very same box, and
never comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace

from patchwright_common.errors import PatchwrightError
from patchwright_runner.sandbox.protocol import Availability, Backend, Box, BoxSpec

_ANSWER_SECONDS = 10.0
_NOBODY = "waiting"
"""The job of a box that has none yet."""
Further = Callable[[Box], Awaitable[object]]
"""What else is done to a box before it waits; never anything of an agent's."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """One box that nobody has used, in the order in which they were made."""

    box: Box
    spec: BoxSpec
    """As a job would ask for it, but for the job's id."""
    base: str
    """Where its workspace stands."""
    objects: tuple[int, int]
    """Which folder of objects it sees: a mirror that was made anew is another one."""
    end: asyncio.TimerHandle


class Pool:
    """A backend in front of another one: `size` boxes wait, none longer than `seconds`."""

    def __init__(self, backend: Backend, *, size: int, seconds: float = 1800.0) -> None:
        self._backend = backend
        self._size = size
        self._seconds = seconds
        self._waiting: list[Waiting] = []
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """The backend's own: whoever reads reports wants to know what held the agent."""
        return self._backend.name

    async def available(self) -> Availability:
        """As the backend says."""
        return await self._backend.available()

    async def identity(self) -> str:
        """The backend's own."""
        return await self._backend.identity()

    async def sweep(self) -> int:
        """What an earlier crash left, boxes that had been waiting too."""
        return await self._backend.sweep()

    async def start(self, spec: BoxSpec) -> Box:
        """A box that waited for this, or a fresh one."""
        while (waiting := self._take(spec)) is not None:
            try:
                if await _is_good(waiting):
                    return waiting.box
            except BaseException:
                await waiting.box.close()
                raise
            await waiting.box.close()
        return await self._backend.start(spec)

    def prepare(self, spec: BoxSpec, base: str, further: Further | None = None) -> None:
        """Have another box like this one wait, checked out at `base`; returns at once.

        Called when a job has begun: the model's first thoughts take longer than this does.
        Where as many wait already as may, one more is not worth it for a newer base alone.
        `further` restores the environment that `spec.prepared` names.
        """
        if self._size > 0:
            self._begin(self._prepare(replace(spec, job_id=_NOBODY), base, further))

    async def settled(self) -> None:
        """Return when everything that `prepare` began is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """End every waiting box and those that are being made; no more are made."""
        self._size = 0
        await self._shrink()
        await self.settled()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, spec: BoxSpec) -> Waiting | None:
        wanted = replace(spec, job_id=_NOBODY)
        for waiting in self._waiting:
            if waiting.spec == wanted:
                self._forget(waiting)
                return waiting
        return None

    async def _prepare(self, spec: BoxSpec, base: str, further: Further | None) -> None:
        """One at a time: what runs already goes first."""
        async with self._turn:
            try:
                if sum(waiting.spec == spec for waiting in self._waiting) < self._size:
                    await self._add(spec, base, further)
            except (PatchwrightError, OSError) as error:
                log.warning("no box could be made ahead: %s", error)
        await self._shrink()

    async def _shrink(self) -> None:
        while (one_too_many := surplus(self._waiting, self._size)) is not None:
            await self._drop(one_too_many)

    async def _add(self, spec: BoxSpec, base: str, further: Further | None) -> None:
        objects = _objects(spec)
        # Its own deadline must leave a job all of its time.
        longer = replace(spec.limits, wall_seconds=spec.limits.wall_seconds + self._seconds)
        box = await self._backend.start(replace(spec, limits=longer))
        try:
            await box.checkout(base)
            if further is not None:
                await further(box)
        except BaseException:
            await box.close()
            raise
        end = asyncio.get_running_loop().call_later(self._seconds, self._expire, box)
        self._waiting.append(Waiting(box, spec, base, objects, end))

    def _expire(self, box: Box) -> None:
        for waiting in self._waiting:
            if waiting.box is box:
                self._begin(self._drop(waiting))

    async def _drop(self, waiting: Waiting) -> None:
        if waiting in self._waiting:
            self._forget(waiting)
            await waiting.box.close()

    def _forget(self, waiting: Waiting) -> None:
        self._waiting.remove(waiting)
        waiting.end.cancel()


def surplus(waiting: Sequence[Waiting], size: int) -> Waiting | None:
    """Which box has to go: the oldest of the repository that has the most."""
    if len(waiting) <= size:
        return None
    counted = Counter(one.spec.mirror for one in waiting)
    most = max(counted.values())
    return next(one for one in waiting if counted[one.spec.mirror] == most)


async def _is_good(waiting: Waiting) -> bool:
    """Whether the box is alive and sees the mirror that its job is going to use."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await waiting.box.checkout(waiting.base)
        return waiting.objects == _objects(waiting.spec)
    except (PatchwrightError, OSError, TimeoutError) as error:
        log.info("a box that waited is of no use: %s", error)
        return False


def _objects(spec: BoxSpec) -> tuple[int, int]:
    if spec.mirror is None:
        return 0, 0
    status = (spec.mirror / "objects").stat()
    return status.st_dev, status.st_ino
