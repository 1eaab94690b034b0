"""What one epoch of a job says: events under its epoch, never after it was overtaken."""

from __future__ import annotations

import time

from patchwright_common import steps
from patchwright_common.bus import Bus
from patchwright_common.events import Event, JobProgressed, JobRequested, Spent
from patchwright_common.flow import ANSWER_PRODUCED, CHANGE_PRODUCED, JOB_PROGRESSED, Route
from patchwright_runner.agent.protocol import Turn, Usage
from patchwright_runner.egress import Report, announcement
from patchwright_runner.history import newest_event
from patchwright_runner.ownership import Ownership


class Teller:
    """One epoch's voice, and its account: a job's budget is one, however often it begins."""

    def __init__(self, bus: Bus, job: JobRequested, ownership: Ownership) -> None:
        self._bus = bus
        self._ownership = ownership
        self._began = time.monotonic()
        self._before = Spent()
        self._usage = Usage()
        self._turns = 0
        self._last_turn = 0
        self.job = job
        self.epoch = ownership.epoch

    async def begin(self) -> None:
        """Find out what earlier attempts used."""
        told = await newest_event(self._bus, JOB_PROGRESSED, JobProgressed, self.job.job_id)
        if told:
            self._before = told.spent
            self._last_turn = told.turn

    async def emit(self, route: Route, event: Event, step: str) -> None:
        """Raises `Overtaken` when the job is no longer ours, and `StoppedByPerson`."""
        await self._ownership.check()
        if route in (CHANGE_PRODUCED, ANSWER_PRODUCED):
            await self._ownership.check_not_stopped()
        await self._bus.emit(route, event, step=f"{self.epoch}:{step}")

    async def account(self, usage: Usage) -> None:
        """Tell what an attempt used that ends without a result: the next one has less."""
        self._usage = usage
        told = JobProgressed(
            job_id=self.job.job_id,
            epoch=self.epoch,
            turn=self._last_turn,
            doing="was interrupted",
            spent=self.spent,
        )
        await self.emit(JOB_PROGRESSED, told, "interrupted")

    async def report(self, report: Report) -> None:
        """A contact to the outside."""
        route, event, step = announcement(report, self.job.job_id, self.epoch)
        await self.emit(route, event, step)
        steps.reached("runner.contact-told")

    def spend(self, turn: Turn) -> None:
        """Count one more turn."""
        self._usage += turn.usage
        self._turns += 1
        self._last_turn = turn.number

    def settle(self, usage: Usage, turns: int) -> None:
        """What this attempt used in all, told or not: a reply that broke off is no turn."""
        self._usage = usage
        self._turns = turns

    @property
    def used_before(self) -> Usage:
        """By earlier attempts."""
        before = self._before
        return Usage(before.input_tokens, before.output_tokens, dollars=before.dollars)

    @property
    def spent(self) -> Spent:
        """The whole job's until now, earlier attempts included."""
        before, usage = self._before, self._usage
        cached = usage.cache_read_tokens + usage.cache_write_tokens
        return Spent(
            turns=before.turns + self._turns,
            input_tokens=before.input_tokens + usage.input_tokens + cached,
            output_tokens=before.output_tokens + usage.output_tokens,
            dollars=before.dollars + usage.dollars,
            seconds=before.seconds + time.monotonic() - self._began,
        )
