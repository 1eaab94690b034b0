"""All services, each of which may be there several times: a process is one handler's run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from patchwright_common import flow
from patchwright_common.claims import Claims
from patchwright_common.errors import Overtaken, PatchwrightError, Retry
from patchwright_common.flow import Consumer
from patchwright_common.messaging import Deliveries, Delivery
from patchwright_ingest.fairness import Fairness
from patchwright_ingest.mention import Mention
from patchwright_ingest.stopping import Stopping, Stops
from patchwright_ingest.triage import REPLAY, Triage
from patchwright_ingest.turns import Shares
from patchwright_publisher import results
from patchwright_publisher.handlers import Handlers
from patchwright_publisher.pull_request import Texts, Voice
from patchwright_publisher.results import Results
from patchwright_runner.sweeper import Sweeper

from .agents import Agents, runner
from .broker import Broker, Handed
from .fate import FATE, Broken, Fate, Killed, Loud
from .site import GitHubForJob, Site, verified_on

BASE = "a" * 40
REPOSITORY = 7
SHARES = Shares(repository=1, sender=0)
"""Two issues of one repository have to wait for each other."""
ROUNDS = 1000
"""Messages by which everything that waits must be handled, once there are no more faults."""
TEXTS = Texts(Voice("patchwright", "patchwright"))
HOUSEKEEPING = (flow.VAULT_DELIVERY_RECEIVED.name, flow.VAULT_JOB_FINISHED.name)
"""The vault's register and revocation: no part of a job's life."""

Made = tuple[str, str, bytes, str]
"""A delivery: event, action, body, id."""
Handler = Callable[[Delivery], Awaitable[None]]


class Repositories(Loud):
    """What triage asks of GitHub."""

    async def may_write(self, *_: Any) -> bool:
        return True

    def clone_url(self, *_: Any) -> str:
        return "https://github.example/octo/doorbell.git"

    async def head(self, *_: Any) -> str:
        return BASE

    async def conversation(self, *_: Any) -> tuple[()]:
        return ()


class Room(Loud):
    """There is always room."""

    async def check(self) -> None:
        pass


class Vault(Loud):
    """What the publisher asks of the vault."""

    async def mark(self, job_id: str) -> str:
        return f"mark-{job_id}"

    async def token(self, *_: Any, **__: Any) -> SecretStr:
        return SecretStr("token")


@dataclass(frozen=True)
class Waiting:
    """A message that a consumer has not settled."""

    consumer: Consumer
    handed: Handed


@dataclass
class Process:
    """A handler at work on one message; `holds` is None for the sweeper."""

    fate: Fate
    task: asyncio.Task[None]
    holds: Waiting | None


class World:
    """NATS, GitHub, and whoever is at work between them."""

    def __init__(self, wills: list[str]) -> None:
        self.broker = Broker()
        self.site = Site()
        self.agents = Agents(wills)
        self.asleep: list[Process] = []
        self.is_broken = False
        self.asked: set[str] = set()
        """Triggers that were accepted."""
        self._consumers = [c for c in flow.consumers() if c.name not in HOUSEKEEPING]
        results.verified = verified_on(self.site)
        results.GitHub = lambda _open, job, _bot, fence: GitHubForJob(self.site, job, fence)  # type: ignore[assignment,misc]

    # --- what can happen ---------------------------------------------------------------

    def waiting(self, *, held: bool = True) -> list[Waiting]:
        """Every message that can be handed out, also those that a sleeping process holds."""
        asleep = [process.holds.handed for process in self.asleep if process.holds]
        return [
            Waiting(consumer, one)
            for consumer in self._consumers
            for one in self.broker.waiting(consumer)
            if held or not any(one is other for other in asleep)
        ]

    def handle(self, what: Waiting, fate: Fate) -> Process:
        """Hand a message to a process of its own."""
        message = self.broker.hand_out(what.consumer, what.handed)
        deliveries = Deliveries(self.broker.bus())
        work = deliveries.process(message, what.consumer, _unexpected(self._handler(what.consumer)))
        return self._run(work, fate, what)

    def ask(self, issue: int, *, comment: bool, text: str = "@patchwright do it") -> Made:
        """Somebody asks, by a comment or by a label."""
        at = self.site.now().isoformat()
        number = self.site.ticks
        about: dict[str, Any] = {
            "action": "created" if comment else "labeled",
            "issue": {"number": issue, "title": "Title", "created_at": at, "updated_at": at},
            "repository": {
                "id": REPOSITORY,
                "full_name": "octo/doorbell",
                "default_branch": "main",
            },
            "sender": {"login": "ada"},
            "installation": {"id": 1},
            "label": {"name": "patchwright"},
        }
        if comment:
            about["comment"] = {"id": number, "body": text, "created_at": at}
        event = "issue_comment" if comment else "issues"
        made = (event, about["action"], json.dumps(about).encode(), f"guid-{number}")
        self.deliver(made)
        self.asked.add(f"{REPOSITORY}-{issue}-" + (f"c{number}" if comment else "issue"))
        return made

    def stop(self, issue: int) -> None:
        """Somebody tells us to stop, which is no request."""
        asked = set(self.asked)
        self.ask(issue, comment=True, text="@patchwright stop")
        self.asked = asked

    def deliver(self, made: Made, *, replay: str = "") -> None:
        """As GitHub does, or with `replay` as an operator does."""
        event, action, body, guid = made
        subject = f"pw.github.{event}.{action}.{REPOSITORY}"
        headers = {"x-github-delivery": guid} | ({REPLAY: replay} if replay else {})
        self.broker.store(subject, body, headers)

    def go_on(self, steps: int, *, newest: bool = False) -> None:
        """Without a fault; what sleeping processes hold is left to them."""
        for _ in range(steps):
            waiting = self.waiting(held=False)
            if not waiting:
                return
            self.handle(waiting[-1 if newest else 0], Fate())

    def sweep(self, fate: Fate) -> Process:
        async def sweep() -> None:
            bus, claims = self.broker.bus(), self.claims()
            with suppress(Retry, Overtaken):
                await Sweeper(bus, claims, silence=0).sweep()
                await Fairness(bus, claims, SHARES).sweep()

        return self._run(sweep(), fate, None)

    def wake(self, one: Process, then: Fate) -> None:
        self.asleep.remove(one)
        one.fate.wake(Fate() if self._is_last_to_know(one) else then)
        self._settle(one)

    def calm_down(self, *, late: bool) -> None:
        """Nobody dies or sleeps any more. With `late`, sleepers wake when all else is done."""
        self.agents.calm = True
        if late:
            self._come_to_rest()
        while self.asleep:
            self.wake(self.asleep[0], Fate())
        self._come_to_rest()

    def _come_to_rest(self) -> None:
        for _ in range(ROUNDS):
            waiting = self.waiting()
            if not waiting:
                self.sweep(Fate())
                waiting = self.waiting()
                if not waiting:
                    return
            self.handle(min(waiting, key=lambda one: one.handed.delivered), Fate())
        raise AssertionError("it never comes to rest")

    def end(self) -> None:
        """Leave nobody asleep."""
        tasks = [process.task for process in self.asleep]
        for task in tasks:
            task.cancel()
        asyncio.get_event_loop().run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    # --- how ---------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, None], fate: Fate, holds: Waiting | None) -> Process:
        """As far as it goes: to its end, its death, or its sleep."""

        async def process() -> None:
            FATE.set(fate)
            with suppress(Killed):
                await work

        one = Process(fate, asyncio.get_event_loop().create_task(process()), holds)
        self._settle(one)
        return one

    def _settle(self, one: Process) -> None:
        async def settle() -> None:
            # Everything is in memory: it waits for nothing but to be woken.
            while not one.task.done() and not one.fate.asleep:
                await asyncio.sleep(0)

        asyncio.get_event_loop().run_until_complete(settle())
        if not one.task.done():
            self.asleep.append(one)
            return
        try:
            one.task.result()
        except Broken as broken:
            self.is_broken = True
            raise AssertionError(str(broken)) from broken

    def claims(self) -> Claims:
        return Claims(self.broker, self.broker)  # type: ignore[arg-type]

    def _is_last_to_know(self, one: Process) -> bool:
        """A publisher that slept through its message's settlement and its job's decision.

        What it still writes it puts right itself. Dying between the two would leave a comment
        wrong for ever, and that the product cannot prevent: GitHub takes no condition.
        """
        held = one.holds
        if held is None or held.consumer.service != "publisher" or not held.handed.settled:
            return False
        return f"outcome.{held.handed.message.subject.rpartition('.')[2]}" in self.broker.records

    def _handler(self, consumer: Consumer) -> Handler:
        """A new one each time: no process remembers what another one knew."""
        bus, claims = self.broker.bus(), self.claims()
        mention, repositories = Mention("patchwright"), Repositories()
        triage = Triage(
            bus,
            claims,
            repositories,
            mention,
            "patchwright",
            room=Room(),
            fairness=Fairness(bus, claims, SHARES),
        )
        stopping = Stopping(bus, Stops(bus, claims), repositories, mention)
        shown = Results(
            bus,
            claims,
            Vault(),  # type: ignore[arg-type]
            TEXTS,
            open_session=None,  # type: ignore[arg-type]
            bot="patchwright[bot]",
            github="https://github.example",
        )
        publisher = Handlers(bus, claims, shown, TEXTS, progress_interval=0)
        handlers: dict[str, Handler] = {
            flow.TRIAGE_DELIVERY_RECEIVED.name: triage.on_delivery,
            flow.TRIAGE_STOP_RECEIVED.name: stopping.on_delivery,
            flow.TRIAGE_JOB_REQUESTED.name: triage.on_requested,
            flow.TRIAGE_JOB_FINISHED.name: triage.on_finished,
            flow.RUNNER_JOB_READIED.name: runner(bus, claims, self.agents),
            flow.PUBLISHER_JOB_REQUESTED.name: publisher.on_requested,
            flow.PUBLISHER_JOB_STARTED.name: publisher.on_started,
            flow.PUBLISHER_JOB_PROGRESSED.name: publisher.on_progressed,
            flow.PUBLISHER_CHANGE_PRODUCED.name: publisher.on_change,
            flow.PUBLISHER_ANSWER_PRODUCED.name: publisher.on_answer,
            flow.PUBLISHER_JOB_FAILED.name: publisher.on_failed,
            flow.PUBLISHER_JOB_CANCELLED.name: publisher.on_cancelled,
        }
        if consumer.name not in handlers:
            raise Broken(f"tests/life: nobody handles `{consumer.name}` yet")
        return handlers[consumer.name]


def _unexpected(handle: Handler) -> Handler:
    """The delivery rules would try again what nobody foresaw; here it is a fault of somebody's."""

    async def handled(delivery: Delivery) -> None:
        try:
            await handle(delivery)
        except PatchwrightError:
            raise
        except Exception as error:
            raise Broken(f"{delivery.consumer.name} failed unexpectedly: {error!r}") from error

    return handled
