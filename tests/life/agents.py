"""The runner's own rules and voice around an agent whose end was decided before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    FileChanged,
    JobProgressed,
    JobRequested,
    JobStarted,
    Spent,
)
from patchwright_common.flow import ANSWER_PRODUCED, CHANGE_PRODUCED, JOB_PROGRESSED, JOB_STARTED
from patchwright_runner import work
from patchwright_runner.ownership import Ownership
from patchwright_runner.telling import Teller
from patchwright_runner.work import Runner

from .fate import FATE, Loud

ENDS = ("change", "answer", "hopeless", "away", "deadly")
"""How an agent's work can end; `deadly` takes its runner along."""


@dataclass
class Agents:
    """All agents of a world: the n-th to begin ends as `wills` says."""

    wills: list[str]
    begun: int = 0
    calm: bool = False
    """Whether the model has come back for good."""
    deaths: dict[str, int] = field(default_factory=dict)
    """By job: how many runners its agents took along."""

    def will(self) -> str:
        end = self.wills[self.begun % len(self.wills)]
        self.begun += 1
        return "answer" if self.calm and end == "away" else end


class Workshop(Loud):
    """As `patchwright_runner.workshop.Workshop`."""

    name = "runner"

    def __init__(self, bus: Bus, claims: Claims, agents: Agents) -> None:
        self.bus = bus
        self.claims = claims
        self.agents = agents
        self.mirror = self

    @asynccontextmanager
    async def held(self, _repository: int) -> AsyncIterator[None]:
        yield


class Attempt:
    """As `patchwright_runner.attempt.Attempt`: one turn, and the end."""

    def __init__(self, shop: Workshop, job: JobRequested, ownership: Ownership) -> None:
        self._job = job
        self._agents = shop.agents
        self._teller = Teller(shop.bus, job, ownership)

    async def run(self) -> None:
        job_id, epoch = self._job.job_id, self._teller.epoch
        await self._teller.begin()
        started = JobStarted(job_id=job_id, epoch=epoch, runner="runner", sandbox="none")
        await self._teller.emit(JOB_STARTED, started, "started")
        await self._turn()
        end = self._agents.will()
        if end == "deadly":
            self._agents.deaths[job_id] = self._agents.deaths.get(job_id, 0) + 1
            raise FATE.get().die()
        if end == "away":
            raise Retry("the model is away")
        if end == "hopeless":
            raise Permanent(f"It cannot be done, finds epoch {epoch}.")
        said: dict[str, Any] = {"job_id": job_id, "epoch": epoch, "model": "m", "spent": Spent()}
        if end == "answer":
            answer = AnswerProduced(**said, answer=f"So it is, finds epoch {epoch}.")
            await self._teller.emit(ANSWER_PRODUCED, answer, "answer")
            return
        change = ChangeProduced(
            **said,
            bundle_sha256="0" * 64,
            bundle_bytes=1,
            commit="b" * 40,
            base=self._job.base,
            summary=f"Done by epoch {epoch}.",
            files=(FileChanged(path="a", status="A", additions=1, deletions=0),),
        )
        await self._teller.emit(CHANGE_PRODUCED, change, "change")

    async def _turn(self) -> None:
        """As `AgentWork.turn_finished`: a bus that is away costs the report only."""
        progressed = JobProgressed(
            job_id=self._job.job_id, epoch=self._teller.epoch, turn=1, doing="Look.", spent=Spent()
        )
        with suppress(Retry):
            await self._teller.emit(JOB_PROGRESSED, progressed, "turn-1")


def runner(bus: Bus, claims: Claims, agents: Agents) -> Callable[..., Any]:
    """The handler of `JobReadied`."""
    work.Attempt = Attempt  # type: ignore[assignment,misc]
    return Runner(Workshop(bus, claims, agents)).on_readied  # type: ignore[arg-type]
