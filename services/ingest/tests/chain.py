"""The stand-in's webhooks through the real ingest, vault and triage, as processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from harness import signals
from harness.nats import QUICK, NatsServer, nats_server
from harness.nats import bus as connect
from harness.programs import Program, github_standin, program
from patchwright_common import flow
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims, Outcome
from patchwright_common.events import (
    JobCancelled,
    JobFailed,
    JobFinished,
    JobReadied,
    JobRequested,
)
from patchwright_common.flow import JOB_FINISHED
from standin_github.client import CreatedApp, StandinGitHub

from .webhooks import Stored, stored

PATIENCE = 20.0
ROLES = ("read", "triage", "write", "maintain", "admin")
READY = r'"text": "ready'
LISTENS = r"listening on 127\.0\.0\.1 port (\d+)"


@dataclass
class Chain:
    """Everything in front of the runner; `tokens` are people's, named after their roles."""

    nats: NatsServer
    bus: Bus
    github: StandinGitHub
    app: CreatedApp
    tokens: dict[str, str]
    folder: Path
    programs: dict[str, Program] = field(default_factory=dict)
    port: int = 0

    async def repository(
        self, files: dict[str, str] | None = None, *, default_branch: str = "main"
    ) -> Place:
        """A new one, so that tests do not meet."""
        name = f"labs-{uuid4().hex[:8]}/calculator"
        made = await self.github.create_repository(
            name,
            {"README.md": "# Calculator\n"} if files is None else files,
            collaborators={role: role for role in ROLES},
            default_branch=default_branch,
        )
        installation = await self.github.install(self.app.id, [name])
        return Place(self, name, made.id, installation)

    async def quiet(self) -> None:
        """Return once triage has nothing left to do."""
        await self.github.settled()
        deadline = time.monotonic() + PATIENCE
        while any([await self._busy(consumer) for consumer in flow.consumers("triage")]):
            assert time.monotonic() < deadline, "triage is still busy"
            await asyncio.sleep(0.02)

    async def _busy(self, consumer: flow.Consumer) -> bool:
        stream = flow.route_of(consumer).stream.name
        info = await self.bus.js.consumer_info(stream, consumer.name)
        return bool(info.num_pending or info.num_ack_pending)

    async def delivery(self, place: Place, subject: str) -> Stored:
        """The newest stored delivery about that repository: `issues.labeled`."""
        wanted = f"pw.github.{subject}.{place.id}"
        return [m for m in await stored(self.bus) if m.subject == wanted][-1]

    async def resend(self, message: Stored, **changed: str) -> None:
        """As `just replay` does."""
        headers = {k: v for k, v in message.headers.items() if not k.startswith("Nats-")}
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        await self.bus.js.publish(
            message.subject, message.body, stream="PW_GITHUB", headers=headers
        )

    def output(self) -> str:
        """What all programs have said."""
        return "\n".join(line for running in self.programs.values() for line in running.lines)

    @asynccontextmanager
    async def paused(self, name: str) -> AsyncIterator[None]:
        """A program that does nothing meanwhile."""
        pid = self.programs[name].process.pid
        signals.pause(pid)
        try:
            yield
        finally:
            signals.wake(pid)


@dataclass(frozen=True)
class Place:
    """A repository of one test."""

    chain: Chain
    name: str
    id: int
    installation: int

    async def requested(self, count: int = 1) -> list[JobRequested]:
        """The jobs of this repository, once there are `count`, in the order of their creation."""
        found = await self._events("requested", count)
        return [JobRequested.model_validate_json(message.body) for message in found]

    async def readied(self, count: int = 1) -> list[str]:
        """The ids of the jobs that may run, in order."""
        found = await self._events("readied", count)
        return [JobReadied.model_validate_json(message.body).job_id for message in found]

    async def failed(self, count: int = 0) -> list[JobFailed]:
        """The failures of this repository's jobs, once there are `count`."""
        found = await self._events("failed", count)
        return [JobFailed.model_validate_json(message.body) for message in found]

    async def cancelled(self, count: int = 1) -> list[JobCancelled]:
        """The jobs that were stopped, in order."""
        found = await self._events("cancelled", count)
        return [JobCancelled.model_validate_json(message.body) for message in found]

    async def _events(self, verb: str, count: int) -> list[Stored]:
        prefix = f"pw.evt.job.{verb}.{self.id}-"
        return await self._found("PW_EVENTS", lambda m: m.subject.startswith(prefix), count)

    async def _found(
        self, stream: str, wanted: Callable[[Stored], bool], count: int
    ) -> list[Stored]:
        deadline = time.monotonic() + PATIENCE * 2
        while True:
            found = [m for m in await stored(self.chain.bus, stream) if wanted(m)]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"only {len(found)} of {count} in {stream}"
            await asyncio.sleep(0.05)

    async def finish(self, job_id: str, *, at: datetime) -> None:
        """What the publisher does at the end of a job."""
        claims = await Claims.open(self.chain.bus.js)
        await claims.decide(job_id, Outcome(kind="answer", sequence=1))
        await claims.report(job_id, kind="answer", url="http://x", at=at)
        finished = JobFinished(job_id=job_id, result="answer", url="http://x")
        await self.chain.bus.emit(JOB_FINISHED, finished, step="finished")

    async def dead_letters(self, count: int = 0) -> list[Stored]:
        """Of deliveries about this repository, once there are `count`."""
        end = f".{self.id}"
        return await self._found(
            "PW_DLQ", lambda m: m.headers["Patchwright-Subject"].endswith(end), count
        )


@asynccontextmanager
async def chain(folder: Path, *, jetstream: str = QUICK, **triage: str) -> AsyncIterator[Chain]:
    """All of it, on free ports; `triage` are settings of it."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(nats_server(folder / "nats", jetstream))
        bus = await enter(connect(server.url))
        url = await enter(github_standin(folder / "github"))
        github = await enter(StandinGitHub(url))
        people = {role: await github.create_user(role) for role in ROLES}
        tokens = {role: person.token for role, person in people.items()}
        made = Chain(server, bus, github, await github.create_app("Patchwright"), tokens, folder)
        common = {"PATCHWRIGHT_GITHUB_API_URL": github.api_url}
        vault = common | {
            "PATCHWRIGHT_VAULT_KEY_FILE": str(folder / "vault.key"),
            "PATCHWRIGHT_GITHUB_APP_ID": str(made.app.id),
            "PATCHWRIGHT_GITHUB_PRIVATE_KEY": made.app.private_key,
            "PATCHWRIGHT_WEBHOOK_SECRET": made.app.webhook_secret,
        }
        environments = {
            "vault": vault,
            "triage": common | triage,
            "ingest": common | {"PATCHWRIGHT_INGEST_PORT": "0"},
        }
        for name, environment in environments.items():
            known = server.environment(name)
            starting = program(f"patchwright-{name}", environment=known | environment)
            made.programs[name] = await enter(starting)
        for running in made.programs.values():
            await running.line(READY)
        made.port = int((await made.programs["ingest"].line(LISTENS))[1])
        hook = f"http://127.0.0.1:{made.port}/webhooks/github"
        await github.change_app(made.app.id, webhook_url=hook)
        yield made
