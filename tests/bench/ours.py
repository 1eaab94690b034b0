"""What the runner does for a job before its agent, and around each of the agent's tool calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchwright_runner.mirror import Mirror
from patchwright_runner.sandbox.pool import Pool
from patchwright_runner.sandbox.protocol import Backend, BoxSpec

from .measured import Measured
from .origin import Origin

_SECONDS = 60.0
CALLS = 40


@dataclass(frozen=True)
class Names:
    """How the lines of one backend are called."""

    backend: str

    @property
    def warm(self) -> str:
        return f"{self.backend}: workspace, box waits at this commit"

    @property
    def newer(self) -> str:
        return f"{self.backend}: workspace, one commit to fetch over HTTP"

    @property
    def cold(self) -> str:
        return f"{self.backend}: workspace, no box waits"

    @property
    def first_call(self) -> str:
        return f"{self.backend}: first tool call, box waits"

    @property
    def call(self) -> str:
        return f"{self.backend}: tool call"


@dataclass(frozen=True)
class Place:
    """One backend, and the mirror that it borrows from."""

    backend: Backend
    mirror: Mirror
    origin: Origin

    async def workspaces(self, measured: Measured) -> None:
        """One round: a box that waits, one that has to be moved on, and none at all."""
        names = Names(self.backend.name)
        pool = Pool(self.backend, size=1)
        base = self.origin.head
        spec = BoxSpec("bench", mirror=await self._fetch(base))
        try:
            await _ready(pool, spec, base)
            with measured.clock(names.first_call):
                with measured.clock(names.warm):
                    await self._fetch(base)
                    box = await pool.start(spec)
                    await box.checkout(base)
                await box.run("true", timeout=_SECONDS)
            await box.close()
            await _ready(pool, spec, base)
            newer = self.origin.advance()
            await self._workspace(measured, names.newer, pool, spec, newer)
            await self._workspace(measured, names.cold, self.backend, spec, newer)
        finally:
            await pool.aclose()

    async def _workspace(
        self, measured: Measured, name: str, backend: Backend, spec: BoxSpec, base: str
    ) -> None:
        with measured.clock(name):
            await self._fetch(base)
            box = await backend.start(spec)
            await box.checkout(base)
        await box.close()

    async def _fetch(self, base: str) -> Path:
        return await self.mirror.fetch(1, self.origin.url, None, sha=base)


async def calls(measured: Measured, backend: Backend) -> float:
    """Tool calls in one box; the median of what the runner adds, in seconds."""
    name = Names(backend.name).call
    added = Measured()
    async with await backend.start(BoxSpec("bench")) as box:
        for _ in range(CALLS):
            with measured.clock(name):
                result = await box.run("true", timeout=_SECONDS)
            added.runs[name].append(measured.runs[name][-1] - result.duration)
    return added.seconds(name)


async def _ready(pool: Pool, spec: BoxSpec, base: str) -> None:
    pool.prepare(spec, base)
    await pool.settled()
