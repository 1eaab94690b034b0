"""The publisher as it is deployed, and a job as triage and the runner make it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL
from typing import Any, TypeVar

from nats.js.errors import NotFoundError

from harness.nats import NatsServer, nats_server
from harness.nats import bus as connected_bus
from harness.programs import Program, program
from patchwright_common import flow, topology
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    Event,
    FileChanged,
    JobFailed,
    JobFinished,
    JobProgressed,
    JobRequested,
    JobStarted,
    Repository,
    Spent,
)
from standin_github.client import Json, StandinGitHub
from standin_github.scene import Scene, make_scene

from .bundles import Bundle, Workshop

SPENT = Spent(turns=7, input_tokens=1234, output_tokens=56, dollars=0.0123, seconds=65.0)
TRACE_URL = 'http://traces.example/{trace_id}?q={"a":1}'
FINISH_TIMEOUT = 20.0
T = TypeVar("T")


class Background:
    """An event loop of its own, so that processes can outlive a test's loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Service:
    """A publisher that can be killed and started again, with all that it needs."""

    def __init__(self, background: Background, address: str) -> None:
        self._background = background
        self._stack = AsyncExitStack()
        self._publisher: Program | None = None
        self.address = address
        self.nats: NatsServer
        self.scene: Scene

    async def open(self, folder: Path) -> None:
        self.nats = await self._stack.enter_async_context(nats_server(folder / "nats"))
        github = await self._stack.enter_async_context(StandinGitHub(self.address))
        self.scene = await make_scene(github)
        secrets = {
            "PATCHWRIGHT_VAULT_KEY_FILE": str(folder / "vault.key"),
            "PATCHWRIGHT_GITHUB_APP_ID": str(self.scene.app.id),
            "PATCHWRIGHT_GITHUB_PRIVATE_KEY": self.scene.app.private_key,
        }
        vault = await self._program("patchwright-vault", secrets)
        await vault.line('"text": "ready"')

    async def close(self) -> None:
        await self._stack.aclose()

    def start(self) -> None:
        """Start the publisher and wait until it consumes."""
        self._background.run(self._start())

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        assert self._publisher is not None
        self._background.run(self._publisher.stop(SIGKILL))

    @property
    def log(self) -> str:
        assert self._publisher is not None
        return "\n".join(self._publisher.lines)

    async def _start(self) -> None:
        self._publisher = await self._program(
            "patchwright-publisher",
            {
                "PATCHWRIGHT_APP_SLUG": self.scene.app.slug,
                "PATCHWRIGHT_TRACE_URL": TRACE_URL,
                "PATCHWRIGHT_PROGRESS_INTERVAL": "0",
            },
        )
        await self._publisher.line('"text": "ready"')

    async def _program(self, name: str, environment: dict[str, str]) -> Program:
        common = self.nats.environment(name.removeprefix("patchwright-"))
        common["PATCHWRIGHT_GITHUB_API_URL"] = f"{self.address}/api/v3"
        return await self._stack.enter_async_context(
            program(name, environment=common | environment)
        )


@contextmanager
def running_service(address: str, folder: Path) -> Iterator[Service]:
    background = Background()
    service = Service(background, address)
    try:
        background.run(service.open(folder))
        service.start()
        yield service
    finally:
        background.run(service.close())
        background.close()


@dataclass
class World:
    """The service's surroundings, as one test sees them."""

    service: Service
    scene: Scene
    github: StandinGitHub
    bus: Bus
    claims: Claims
    folder: Path
    workshops: dict[str, Workshop] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def open(cls, service: Service, folder: Path) -> AsyncIterator[World]:
        async with (
            StandinGitHub(service.address) as github,
            connected_bus(service.nats.url) as bus,
        ):
            scene = service.scene
            same = Scene(github, scene.app, scene.person, scene.repository, scene.installation_id)
            yield cls(service, same, github, bus, await Claims.open(bus.js), folder)

    async def job(self, title: str = "Division is wrong", *, epoch: int = 1) -> Job:
        """A requested job on an issue of its own, taken by a runner as `epoch`."""
        issue = await self.github.open_issue(self.scene.name, title, token=self.scene.person.token)
        job = Job(self, requested(self.scene, issue["number"], title, self.workshop().base))
        await self.bus.emit(flow.JOB_REQUESTED, job.record, step="requested", once=True)
        for _ in range(epoch):
            await self.claims.take(job.id, "runner-1")
        return job

    async def expire(self) -> None:
        """Let the time pass after which the broker hands out again what a dead process had."""
        for consumer in flow.consumers("publisher"):
            config = (await self.bus.js.consumer_info("PW_EVENTS", consumer.name)).config
            await self.bus.js.add_consumer("PW_EVENTS", replace(config, ack_wait=0.5))
        await asyncio.sleep(1.0)
        await topology.ensure(self.bus.js)

    def workshop(self) -> Workshop:
        """A clone of the repository, made when it is first needed."""
        name = self.scene.name
        if name not in self.workshops:
            path = self.folder / f"workshop-{len(self.workshops)}.git"
            url, token = self.scene.repository.clone_url, self.scene.person.token
            self.workshops[name] = Workshop.clone(path, url, token)
        return self.workshops[name]


def requested(
    scene: Scene, number: int, title: str, base: str, *, kind: str = "issue"
) -> JobRequested:
    """Triage's record of a job."""
    return JobRequested(
        job_id=f"{scene.repository.id}-{number}-{kind}-1",
        repository=Repository(
            id=scene.repository.id,
            full_name=scene.name,
            clone_url=scene.repository.clone_url,
            default_branch="main",
            installation_id=scene.installation_id,
        ),
        issue_number=number,
        title=title,
        body="",
        sender=scene.person.login,
        base=base,
        attempt=1,
        delivery_id="d",
        requested_at=datetime.now(UTC),
    )


def produced(job: JobRequested, bundle: Bundle, **more: Any) -> ChangeProduced:
    """The runner's event about a bundle."""
    values: dict[str, Any] = {
        "job_id": job.job_id,
        "epoch": 1,
        "bundle_sha256": bundle.digest,
        "bundle_bytes": len(bundle.data),
        "commit": bundle.commit,
        "base": job.base,
        "files": (FileChanged(path="src/calculator.py", status="M", additions=1, deletions=1),),
        "summary": "Division is exact now.",
        "model": "scripted",
        "spent": SPENT,
    }
    return ChangeProduced(**(values | more))


class Job:
    """A job: what is sent about it, and what became of it on GitHub."""

    def __init__(self, world: World, record: JobRequested) -> None:
        self._world = world
        self.record = record
        self.id = record.job_id
        self.number = record.issue_number
        self.branch = f"patchwright/{self.number}-issue-1"
        self.trace = f"{record.repository.id:016x}{self.number:016x}"

    async def change(self, files: dict[Any, Any] | None = None, **more: Any) -> ChangeProduced:
        """Store a bundle and say that it is there."""
        bundle = self._world.workshop().change(files or {f"new-{self.number}.txt": "new\n"})
        await self._world.bus.put(flow.PW_CHANGES, bundle.data)
        event = produced(self.record, bundle, **more)
        await self.send(event)
        return event

    async def answer(
        self, text: str = "It is right as it is.", *, epoch: int = 1
    ) -> AnswerProduced:
        event = AnswerProduced(
            job_id=self.id, epoch=epoch, answer=text, model="scripted", spent=SPENT
        )
        await self.send(event)
        return event

    async def failure(self, reason: str = "The model is gone.", **more: Any) -> JobFailed:
        values: dict[str, Any] = {"job_id": self.id, "stage": "agent", "reason": reason, "epoch": 1}
        event = JobFailed(**(values | more))
        await self.send(event)
        return event

    async def started(self, *, epoch: int = 1) -> None:
        await self.send(JobStarted(job_id=self.id, epoch=epoch, runner="r", sandbox="bubblewrap"))

    async def progressed(self, doing: str, *, epoch: int = 1) -> None:
        await self.send(
            JobProgressed(job_id=self.id, epoch=epoch, turn=3, doing=doing, spent=SPENT)
        )

    async def send(self, event: Event) -> int:
        """Store the event, each time anew; its sequence."""
        route = next(route for route in flow.ROUTES if route.payload is type(event))
        return await self.store(route, event.model_dump_json().encode())

    async def store(self, route: flow.Route, body: bytes) -> int:
        """Past the bus, which would put the trace of this process into the headers."""
        ack = await self._world.bus.js.publish(
            route.subject(self.id),
            body,
            stream=route.stream.name,
            headers={"traceparent": f"00-{self.trace}-00000000000000aa-01"},
        )
        return int(ack.seq)

    async def finished(self, *, timeout: float = FINISH_TIMEOUT) -> JobFinished:
        """Wait for the job's end."""
        subject = flow.JOB_FINISHED.subject(self.id)
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            try:
                message = await self._world.bus.js.get_last_msg("PW_EVENTS", subject)
            except NotFoundError:
                if asyncio.get_running_loop().time() > deadline:
                    raise AssertionError(f"never finished:\n{self._world.service.log}") from None
                await asyncio.sleep(0.02)
                continue
            return JobFinished.model_validate_json(message.data or b"")

    async def handled(self) -> None:
        """Wait until the publisher has nothing left to do with any event."""
        async with asyncio.timeout(FINISH_TIMEOUT):
            for consumer in flow.consumers("publisher"):
                while True:
                    info = await self._world.bus.js.consumer_info("PW_EVENTS", consumer.name)
                    if not info.num_pending and not info.num_ack_pending:
                        break
                    await asyncio.sleep(0.02)

    async def comments(self) -> list[str]:
        rows = await self._world.github.comments(self._world.scene.name, self.number)
        return [str(row["body"]) for row in rows]

    async def pulls(self) -> list[Json]:
        rows = await self._world.github.pulls(self._world.scene.name)
        return [row for row in rows if row["head_ref"] == self.branch]

    async def pushes(self) -> list[Json]:
        state = await self._world.github.state()
        wanted = (self.record.repository.id, f"refs/heads/{self.branch}")
        return [row for row in state["pushes"] if (row["repository_id"], row["ref"]) == wanted]
