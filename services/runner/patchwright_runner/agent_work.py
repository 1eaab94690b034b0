"""An agent's work in its box: what comes before it, each of its turns, and its verification."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from patchwright_common import steps, telemetry
from patchwright_common.errors import Overtaken, PatchwrightError, Permanent, Retry
from patchwright_common.events import JobProgressed, Verification
from patchwright_common.flow import JOB_PROGRESSED
from patchwright_runner import checkpoints
from patchwright_runner.agent.protocol import (
    Agent,
    AgentResult,
    Checkpoint,
    CutOff,
    Task,
    Turn,
    Usage,
)
from patchwright_runner.base_files import find
from patchwright_runner.checkpoints import Moment
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.sandbox.passage import Passage
from patchwright_runner.sandbox.protocol import BoxLost, Entry, Sandbox
from patchwright_runner.telling import Teller
from patchwright_runner.verification import Failure, Patience, first_failure
from patchwright_runner.ways_out import WaysOut
from patchwright_runner.workshop import Workshop

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it; `entries` is how the tree differs from the base."""

    result: AgentResult
    usage: Usage
    """Of all the agent's rounds together."""
    entries: tuple[Entry, ...]
    verification: Verification | None


class AgentWork:
    """One attempt's; observes the agent."""

    def __init__(
        self,
        shop: Workshop,
        teller: Teller,
        config: RepositoryConfig,
        *,
        box: Sandbox,
        ways: WaysOut,
    ) -> None:
        self._shop = shop
        self._teller = teller
        self._job = teller.job
        self._config = config
        self._box = box
        self._ways = ways
        self._kind = shop.agents.kind(config)

    async def do(self, task: Task) -> Done:
        """Raises what the agent and the box raise, and `Overtaken`."""
        resume = await self._restored()
        job_id, used = self._job.job_id, self._teller.used_before
        agent = await self._shop.agents.make(job_id, self._config, used)
        async with self._accounted(agent), self._way_for_agent() as box:
            result = await agent.work(task, box, self, resume=resume)
            done = await self._verified(agent, task, box, result)
        before = resume.turns if resume else 0
        self._teller.settle(done.usage, done.result.turns - before)
        return done

    async def turn_finished(self, turn: Turn) -> None:
        """Tell the issue, and keep what there is; stops the agent when the job is not ours.

        A bus that is away does not: nothing final is published without its confirmation.
        """
        self._teller.spend(turn)
        doing = "; ".join(call.summary for call in turn.tool_calls) or "wrote its conclusion"
        progressed = JobProgressed(
            job_id=self._job.job_id,
            epoch=self._teller.epoch,
            turn=turn.number,
            doing=doing[:500],
            spent=self._teller.spent,
        )
        try:
            await self._teller.emit(JOB_PROGRESSED, progressed, f"turn-{turn.number}")
            steps.reached("runner.turn-told")
            await self._keep(turn)
        except Retry as error:
            log.warning("turn %d was not reported or kept: %s", turn.number, error.reason)

    async def _restored(self) -> Checkpoint | None:
        """Where an earlier attempt was cut off, with the tree as it was then."""
        shop, job_id = self._shop, self._job.job_id
        moment = await checkpoints.newest(shop.bus, shop.claims, job_id, shop.limits)
        if moment is None or moment.agent != self._kind:
            return None
        with telemetry.span("restore checkpoint"):
            await self._box.restore(moment.entries)
        log.info("going on after turn %d", moment.checkpoint.turns)
        return moment.checkpoint

    async def _keep(self, turn: Turn) -> None:
        """A program of the agent's that is still running in the box is not interrupted for it."""
        if turn.box_is_busy or not turn.transcript:
            return
        try:
            entries = await self._entries(quick=True)
            moment = Moment(self._kind, Checkpoint(turn.number, turn.transcript), entries)
        except Permanent as error:
            log.warning("turn %d cannot be kept: %s", turn.number, error.reason)
            return
        shop = self._shop
        await checkpoints.keep(shop.bus, shop.claims, self._job.job_id, self._teller.epoch, moment)

    async def _verified(self, agent: Agent, task: Task, box: Sandbox, result: AgentResult) -> Done:
        """Until the verification passes, or the agent has had its rounds."""
        rounds, usage, patience = 0, result.usage, Patience()
        while True:
            # As the agent left it: what the verification leaves behind is no part of the change.
            entries = await self._entries()
            if not (entries and self._config.verify):
                return Done(result, usage, entries, None)
            with telemetry.span("verify"):
                failure = await first_failure(box, self._config.verify, patience)
            done = Done(result, usage, entries, self._verification(failure, rounds))
            if failure is None or rounds == self._config.verify_rounds:
                return done
            rounds += 1
            log.info("the verification failed: %s", failure.ending)
            ended = Checkpoint(result.turns, result.transcript)
            try:
                await self._undo(entries)
                result = await agent.work(
                    task, box, self, resume=ended, feedback=failure.feedback()
                )
            except Permanent as error:
                # Its budget is used up, or the verification left too much behind. A person may
                # want to finish what there is.
                log.info("the verification's failure was not mended: %s", error.reason)
                return done
            usage += result.usage

    async def _undo(self, wanted: tuple[Entry, ...]) -> None:
        """Bring the tree back to how it was before the verification ran."""
        found = await self._entries()
        before = {entry.path: entry for entry in wanted}
        touched = {entry.path for entry in found if before.get(entry.path) != entry}
        reverted = set(before) - {entry.path for entry in found}
        mirror = self._shop.mirror.path(self._job.repository.id)
        there = await find(mirror, self._job.base, *(touched - set(before))) if touched else {}
        entries = [before[path] for path in sorted((touched | reverted) & set(before))]
        for path in sorted(touched - set(before)):
            file = there.get(path)
            content = await file.content() if file else b""
            entries.append(Entry(path, file.mode if file else None, content))
        await self._box.restore(sorted(entries, key=lambda entry: entry.mode is not None))

    def _verification(self, failure: Failure | None, rounds: int) -> Verification:
        return Verification(
            commands=self._config.verify,
            failed=failure.command if failure else "",
            ending=failure.ending if failure else "",
            rounds=rounds,
        )

    async def _entries(self, *, quick: bool = False) -> tuple[Entry, ...]:
        with telemetry.span("collect change"):
            return tuple([entry async for entry in self._box.collect(self._job.base, quick=quick)])

    @asynccontextmanager
    async def _accounted(self, agent: Agent) -> AsyncIterator[None]:
        """What an attempt used counts, however it ends."""
        try:
            yield
        except Overtaken:
            raise
        except (Exception, asyncio.CancelledError) as error:
            with contextlib.suppress(PatchwrightError):
                await asyncio.shield(self._teller.account(agent.used))
            if isinstance(error, BoxLost):
                raise CutOff(error.reason) from error
            raise

    @asynccontextmanager
    async def _way_for_agent(self) -> AsyncIterator[Sandbox]:
        async with self._ways.open("agent", self._config.egress.agent) as way:
            yield Passage(self._box, way)
