"""No sequence of events, deaths, pauses and lost answers leads to silence or to two results.

The decisions are the services' own (triage, the runner's ownership and sweeper, the publisher,
the delivery rules); NATS and GitHub are in memory, so that thousands of lives fit into a minute.
What is shown at the end is counted after the last fault, when everything that waits was handled.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule
from pydantic import SecretStr

from patchwright_common import flow
from patchwright_common.claims import Claims, Outcome
from patchwright_common.errors import Overtaken, Permanent, Retry
from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    FileChanged,
    JobReadied,
    JobRequested,
    Spent,
)
from patchwright_common.flow import Consumer
from patchwright_common.messaging import Deliveries, Delivery
from patchwright_ingest.attempts import Attempts, Queue
from patchwright_ingest.mention import Mention
from patchwright_ingest.triage import REPLAY, Triage
from patchwright_publisher import results
from patchwright_publisher.handlers import Handlers
from patchwright_publisher.pull_request import Texts, Voice, branch_of, marker_of
from patchwright_publisher.results import Results
from patchwright_runner.history import is_produced
from patchwright_runner.ownership import Ownership
from patchwright_runner.sweeper import Sweeper

from .broker import FATE, Broker, Fate, Killed
from .site import GitHubForJob, Site, verified_on

REPOSITORY = 7
BASE = "a" * 40
FAULTS = ("none", "none", "killed before", "killed after", "unanswered", "away", "paused")
OUTCOMES = ("change", "answer", "hopeless", "away")
ROUNDS = 400
"""In which everything that waits must be handled, once there are no more faults."""


@dataclass
class Repositories:
    """What triage asks of GitHub."""

    async def may_write(self, *_: Any) -> bool:
        return True

    def clone_url(self, *_: Any) -> str:
        return "https://github.example/octo/doorbell.git"

    async def head(self, *_: Any) -> str:
        return BASE

    async def conversation(self, *_: Any) -> tuple[()]:
        return ()


class Vault:
    """What the publisher asks of the vault."""

    async def mark(self, job_id: str) -> str:
        return f"mark-{job_id}"

    async def token(self, *_: Any, **__: Any) -> SecretStr:
        return SecretStr("token")


@dataclass
class Process:
    """A handler at work on one message."""

    fate: Fate
    task: asyncio.Task[None]


class World:
    """All services, each of which may be there several times: a process is one handler's run."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.site = Site()
        self.asleep: list[Process] = []
        self.will: dict[str, str] = {}
        """How the agent's work on a job ends."""
        results.verified = verified_on(self.site)
        results.GitHub = lambda _open, job, _bot: GitHubForJob(self.site, job)  # type: ignore

    def run(self, work: Coroutine[Any, Any, None], fate: Fate) -> None:
        """As far as it goes: to its end, its death, or its sleep."""
        loop = asyncio.get_event_loop()

        async def process() -> None:
            FATE.set(fate)
            try:
                await work
            except Killed:
                pass

        one = Process(fate, loop.create_task(process()))
        loop.run_until_complete(self._settle(one))
        if fate.asleep:
            self.asleep.append(one)

    def wake(self, place: int) -> None:
        one = self.asleep.pop(place % len(self.asleep))
        one.fate.wake.set()
        asyncio.get_event_loop().run_until_complete(self._settle(one))

    async def _settle(self, one: Process) -> None:
        """Everything is in memory: what does not go on after many turns of the loop sleeps."""
        while not one.task.done():
            await asyncio.sleep(0)
            if one.fate.asleep and not one.fate.wake.is_set():
                return
        one.task.result()

    def handle(self, consumer: Consumer, newest: bool, fate: Fate) -> bool:
        """One message that waits; whether there was one."""
        waiting = self.broker.waiting(consumer)
        if not waiting:
            return False
        message = self.broker.hand_out(consumer, waiting[-1 if newest else 0])
        self.run(Deliveries(self.broker.bus()).process(message, consumer, self._handler(consumer)), fate)
        return True

    def _handler(self, consumer: Consumer) -> Any:
        bus, claims = self.broker.bus(), self.claims()
        triage = Triage(bus, claims, Repositories(), Mention("patchwright"), "patchwright")
        texts = Texts(Voice("patchwright", "patchwright"))
        shown = Results(
            bus, claims, Vault(), texts,  # type: ignore[arg-type]
            open_session=None, bot="patchwright[bot]", github="https://github.example",  # type: ignore[arg-type]
        )  # fmt: skip
        publisher = Handlers(bus, claims, shown, texts, progress_interval=0)
        return {
            flow.TRIAGE_DELIVERY_RECEIVED.name: triage.on_delivery,
            flow.TRIAGE_JOB_REQUESTED.name: triage.on_requested,
            flow.TRIAGE_JOB_FINISHED.name: triage.on_finished,
            flow.RUNNER_JOB_READIED.name: self._work,
            flow.PUBLISHER_JOB_REQUESTED.name: publisher.on_requested,
            flow.PUBLISHER_JOB_STARTED.name: publisher.on_started,
            flow.PUBLISHER_JOB_PROGRESSED.name: publisher.on_progressed,
            flow.PUBLISHER_CHANGE_PRODUCED.name: publisher.on_change,
            flow.PUBLISHER_ANSWER_PRODUCED.name: publisher.on_answer,
            flow.PUBLISHER_JOB_FAILED.name: publisher.on_failed,
        }.get(consumer.name, _keep_house)

    async def _work(self, delivery: Delivery) -> None:
        """The runner's rules (work.py) around an agent that is done at once."""
        bus, claims = self.broker.bus(), self.claims()
        job_id = delivery.read(JobReadied).job_id
        claim = await claims.claim(job_id)
        if await claims.outcome(job_id) is not None or (
            claim is not None and await is_produced(bus, job_id, claim.epoch)
        ):
            return
        job = await bus.job(job_id)
        own = await Ownership.take(claims, job_id, "runner")

        async def attempt() -> None:
            end = self.will.get(job_id, "change")
            if end == "away":
                self.will[job_id] = "answer"
                raise Retry("the model is away")
            if end == "hopeless":
                raise Permanent("It cannot be done.")
            await own.check()
            spent = Spent()
            if end == "answer":
                answer = AnswerProduced(
                    job_id=job_id, epoch=own.epoch, answer="So it is.", model="m", spent=spent
                )
                await bus.emit(flow.ANSWER_PRODUCED, answer, step=f"{own.epoch}:answer")
                return
            change = ChangeProduced(
                job_id=job_id, epoch=own.epoch, bundle_sha256="0" * 64, bundle_bytes=1,
                commit="b" * 40, base=job.base, summary="Done.", model="m", spent=spent,
                files=(FileChanged(path="a", status="A", additions=1, deletions=0),),
            )  # fmt: skip
            await bus.emit(flow.CHANGE_PRODUCED, change, step=f"{own.epoch}:change")

        await own.during(attempt)
        await own.check()

    def claims(self) -> Claims:
        return Claims(self.broker, self.broker)  # type: ignore[arg-type]

    def sweep(self, fate: Fate) -> None:
        async def sweep() -> None:
            try:
                await Sweeper(self.broker.bus(), self.claims(), silence=0).sweep()
            except (Retry, Overtaken):
                pass

        self.run(sweep(), fate)

    def calm_down(self) -> None:
        """Nobody dies or sleeps any more."""
        while self.asleep:
            self.wake(0)
        for _ in range(ROUNDS):
            self.sweep(Fate())
            handled = [self.handle(consumer, False, Fate()) for consumer in flow.consumers()]
            if not any(handled):
                return
        raise AssertionError("it never comes to rest")


async def _keep_house(_delivery: Delivery) -> None:
    """The vault's register and revocation: no part of a job's life."""


fates = st.builds(Fate, kind=st.sampled_from(FAULTS), at=st.integers(1, 40))


class LifeOfAJob(RuleBasedStateMachine):
    """What people, operators, GitHub and the machines can do to jobs."""

    deliveries = Bundle("deliveries")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.world = World()
        self.asked: set[str] = set()

    @rule(target=deliveries, issue=st.integers(1, 2), comment=st.booleans())
    def ask(self, issue: int, comment: bool) -> Any:
        at = self.world.site.now().isoformat()
        number = self.world.site.ticks
        about: dict[str, Any] = {
            "action": "created" if comment else "labeled",
            "issue": {
                "number": issue, "title": "Title", "created_at": at, "updated_at": at,
            },
            "repository": {
                "id": REPOSITORY, "full_name": "octo/doorbell", "default_branch": "main",
            },
            "sender": {"login": "ada"},
            "installation": {"id": 1},
            "label": {"name": "patchwright"},
        }  # fmt: skip
        if comment:
            about["comment"] = {"id": number, "body": "@patchwright do it", "created_at": at}
        event = "issue_comment" if comment else "issues"
        made = (event, about["action"], json.dumps(about).encode(), str(uuid4()))
        self._deliver(*made, {})
        self.asked.add(f"{REPOSITORY}-{issue}-" + (f"c{number}" if comment else "issue"))
        return made

    @rule(made=deliveries)
    def deliver_again(self, made: tuple[str, str, bytes, str]) -> None:
        self._deliver(*made, {})

    @rule(made=deliveries)
    def replay_as_new(self, made: tuple[str, str, bytes, str]) -> None:
        self._deliver(*made, {REPLAY: str(uuid4())})

    def _deliver(
        self, event: str, action: str, body: bytes, guid: str, more: dict[str, str]
    ) -> None:
        subject = f"pw.github.{event}.{action}.{REPOSITORY}"
        self.world.broker.store(subject, body, {"x-github-delivery": guid, **more})

    @rule(consumer=st.sampled_from(list(flow.consumers())), newest=st.booleans(), fate=fates)
    def handle(self, consumer: Consumer, newest: bool, fate: Fate) -> None:
        self.world.handle(consumer, newest, fate)

    @rule(place=st.integers(0, 5))
    def wake(self, place: int) -> None:
        if self.world.asleep:
            self.world.wake(place)

    @rule(fate=fates)
    def sweep(self, fate: Fate) -> None:
        self.world.sweep(fate)

    @rule(place=st.integers(0, 50))
    def send_an_event_again(self, place: int) -> None:
        stored = self.world.broker.streams["PW_EVENTS"]
        if stored:
            one = stored[place % len(stored)]
            headers = {k: v for k, v in one.headers.items() if not k.startswith("Nats-")}
            self.world.broker.store(one.subject, one.data, headers)

    @rule(place=st.integers(0, 5), end=st.sampled_from(OUTCOMES))
    def agent_will(self, place: int, end: str) -> None:
        known = self._jobs()
        if known:
            self.world.will[known[place % len(known)].job_id] = end

    def _jobs(self) -> list[JobRequested]:
        found = {}
        for message in self.world.broker.streams["PW_EVENTS"]:
            if message.subject.startswith("pw.evt.job.requested."):
                job = JobRequested.model_validate_json(message.data)
                found[job.job_id] = job
        return list(found.values())

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.calm_down()
            self._count()
        finally:
            self.loop.close()
            asyncio.set_event_loop(None)

    def _count(self) -> None:
        world, records = self.world, self.world.broker.records
        jobs = {job.job_id: job for job in self._jobs()}
        for key in self.asked:
            attempts = Attempts.model_validate_json(records[f"trigger.{key}"][0])
            wanted = {f"{key}-{n}" for n in range(1, len(attempts.deliveries) + 1)}
            assert wanted == {job_id for job_id in jobs if job_id.rpartition("-")[0] == key}
        for job in jobs.values():
            outcome = Outcome.model_validate_json(records[f"outcome.{job.job_id}"][0])
            assert outcome.reported_at is not None
            marker = marker_of(job.job_id, f"mark-{job.job_id}")
            [text] = [text for _, text in world.site.comments.values() if marker in text]
            opened = world.site.pulls.get(branch_of(job))
            assert (opened is not None) == (outcome.kind == "pull_request")
            if opened:
                assert opened.url in text
            assert ("### 💬" in text) == (outcome.kind == "answer")
            assert ("### ❌" in text) == (outcome.kind == "failure")
        assert len(world.site.comments) == len(jobs)
        for key in records:
            if key.startswith("queue."):
                assert Queue.model_validate_json(records[key][0]).waiting == ()


@pytest.fixture(autouse=True)
def quiet() -> Any:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


LifeOfAJob.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLifeOfAJob = LifeOfAJob.TestCase
