"""One run: everything starts, issues come in while processes die, and then it is counted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import nats.errors

from harness.missed import Missed
from patchwright_common import flow
from standin_github.client import StandinGitHub

from .count import Tally, tally
from .crew import Crew
from .leftovers import abandoned, leftovers, orphans
from .network import Network
from .plan import Plan, Request
from .strikes import Striker

LOOK = 1.0
"""Seconds between two looks at how far it is."""
AGAIN = 3.0
"""Seconds between two looks at what ingest did not take."""
WRITES = "/(comments|pulls)$"
"""What GitHub would do twice if it were asked twice."""
SWEPT = 40.0
"""Seconds in which temporary folders of the dead have to be gone: two sweeps and some more."""
SILENCE = 3.0
"""Seconds at the end in which nothing more may happen."""


class Left(NamedTuple):
    """What a consumer has to do yet."""

    pending: int
    unacknowledged: int
    floor: int
    """Sequence in the stream up to which all is acknowledged."""
    handed_out: int


@dataclass
class Progress:
    """For whoever watches."""

    phase: str = "starting"
    opened: int = 0
    finished: int = 0
    redelivered: int = 0
    lost: int = 0
    """Answers of GitHub."""
    waiting: dict[str, Left] = field(default_factory=dict)
    """By consumer, where it is not done."""


@dataclass(frozen=True)
class Ended:
    """What came of a run."""

    tally: Tally
    left: list[str]
    settled: bool
    seconds: float
    """Until everything was settled."""

    waiting: dict[str, Left]
    """At the end, by consumer."""

    @property
    def complaints(self) -> list[str]:
        """Empty when exactly one result is there for each issue, and nothing else."""
        late = [] if self.settled else [f"not settled in time: {self.waiting}"]
        return [*late, *self.tally.wrong, *self.left]

    @property
    def good(self) -> bool:
        """Whether there is nothing to complain of."""
        return not self.complaints


class Run:
    """A plan, carried out on a running stack."""

    def __init__(self, plan: Plan, crew: Crew, *, patience: float, redeliver: bool) -> None:
        """`patience` in seconds is for what remains after the strikes.

        Without `redeliver` it is ingest's own affair to find what it did not take.
        """
        self._plan = plan
        self._crew = crew
        self._patience = patience
        self._redeliver = redeliver
        self._numbers: dict[int, Request] = {}
        """By GitHub's number."""
        self._network = Network(crew.at.at.webhook_url, {r.title: r.passage for r in plan.requests})
        self.striker = Striker(crew, plan.strikes)
        self.progress = Progress()

    @property
    def network(self) -> Network:
        """With what it did to webhooks."""
        return self._network

    async def run(self) -> Ended:
        """Stops the stack at the end."""
        async with self._network.open() as address, self._crew.at.github() as github:
            await self._prepare(github, address)
            began = time.monotonic()
            async with self._looking():
                self.progress.phase = "chaos"
                await asyncio.gather(
                    self._open_all(github, began),
                    self._lose_answers(github, began),
                    self.striker.run(began),
                )
                self._crew.wake_all()
                self.progress.phase = "settling"
                settled = await self._settled(time.monotonic() + self._patience)
            seconds = time.monotonic() - began
            self.progress.phase = "counting"
            await asyncio.sleep(SILENCE)
            found = await self._count(github)
            self.progress.lost = sum(f["hits"] for f in await github.admin("GET", "/faults"))
        self.progress.phase = "sweeping"
        await self._swept()
        left = orphans(self._crew)
        self.progress.phase = "stopping"
        await self._crew.stop()
        left += leftovers(self._crew)
        return Ended(found, left, settled, seconds, self.progress.waiting)

    async def _prepare(self, github: StandinGitHub, address: str) -> None:
        await self._crew.at.ready()
        await github.change_settings(rate_limit=10_000_000)
        [app] = (await github.state())["apps"]
        await github.change_app(app["id"], webhook_url=address)

    async def _open_all(self, github: StandinGitHub, began: float) -> None:
        for request in self._plan.requests:
            await asyncio.sleep(max(0.0, began + request.at - time.monotonic()))
            issue = await github.open_issue(
                self._crew.at.repository,
                request.title,
                request.body,
                token=self._crew.at.token,
                labels=["patchwright"],
            )
            self._numbers[int(issue["number"])] = request
            self.progress.opened += 1

    async def _lose_answers(self, github: StandinGitHub, began: float) -> None:
        for at in self._plan.lapses:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            await github.fault("POST", WRITES, after=True, drop=True)

    # --- meanwhile ---------------------------------------------------------------------

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(work())
            for work in (self._watch, self._send_again, self._look_how_far)
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _watch(self) -> None:
        while True:
            self._crew.note_sessions()
            await asyncio.sleep(0.2)

    async def _look_how_far(self) -> None:
        while self.progress.phase == "chaos":
            await asyncio.sleep(AGAIN)
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await self._is_settled()

    async def _send_again(self) -> None:
        """What was not taken, and some of what was: people press that button as well."""
        order = random.Random(f"{self._plan.seed}:again")
        async with self._crew.at.missed() as missed:
            done: set[str] = set()
            while True:
                await asyncio.sleep(AGAIN)
                if self._redeliver:
                    await missed.again(order)
                self.progress.redelivered = missed.count + len(done)
                await self._press_the_button(missed, done)

    async def _press_the_button(self, missed: Missed, done: set[str]) -> None:
        """Once for each delivery that the plan names, when it has been seen on the way."""
        wanted = {
            guid
            for request in self._plan.requests
            if request.again and (guid := self._network.guids.get(request.title))
        }
        for row in await missed.recent() if wanted - done else []:
            if row["guid"] in wanted - done:
                done.add(row["guid"])
                await missed.send([row["id"]])

    async def _settled(self, deadline: float) -> bool:
        while time.monotonic() < deadline:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                if await self._is_settled():
                    return True
            await asyncio.sleep(LOOK)
        return False

    async def _is_settled(self) -> bool:
        async with self._crew.at.nats() as client:
            js = client.jetstream(timeout=5)
            info = await js.stream_info("PW_EVENTS", subjects_filter="pw.evt.job.finished.*")
            self.progress.finished = len(info.state.subjects or {})
            waiting = {}
            for consumer in flow.consumers():
                at = await js.consumer_info(flow.route_of(consumer).stream.name, consumer.name)
                left = Left(
                    at.num_pending or 0,
                    at.num_ack_pending or 0,
                    (at.ack_floor.stream_seq if at.ack_floor else 0) or 0,
                    (at.delivered.stream_seq if at.delivered else 0) or 0,
                )
                if left.pending or left.unacknowledged:
                    waiting[consumer.name] = left
            self.progress.waiting = waiting
        return self.progress.finished >= len(self._plan.requests) and not waiting

    async def _swept(self) -> None:
        """Wait, within bounds, until the services have removed what the dead ones left."""
        deadline = time.monotonic() + SWEPT
        while abandoned(self._crew.temporary) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK)

    async def _count(self, github: StandinGitHub) -> Tally:
        path = f"/repos/{self._crew.at.repository}/git/matching-refs/heads/patchwright/"
        branches: list[str] = []
        for page in range(1, 1 + len(self._plan.requests) // 100 + 1):
            query = f"?per_page=100&page={page}"
            refs = await github.api("GET", path + query, token=self._crew.at.token)
            branches += [ref["ref"].removeprefix("refs/heads/") for ref in refs]
        asked = {number: request.asks for number, request in self._numbers.items()}
        return tally(asked, await github.state(), set(branches))
