"""One runner at work on one job, with a scripted agent in a folder, and real NATS and git."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from nats.aio.msg import Msg

from harness.repositories import Repository
from patchwright_common import telemetry
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.credentials import (
    Reply,
    Request,
    TokenRequest,
    Vault,
    sealed_reply,
)
from patchwright_common.events import (
    ChangeProduced,
    JobReadied,
    JobRequested,
)
from patchwright_common.events import Repository as Place
from patchwright_common.flow import (
    CHANGE_PRODUCED,
    JOB_READIED,
    JOB_REQUESTED,
    RUNNER_JOB_READIED,
)
from patchwright_common.messaging import Delivery
from patchwright_runner.agent.protocol import (
    Agent,
    AgentResult,
    Checkpoint,
    Observer,
    Task,
    Turn,
    Usage,
)
from patchwright_runner.change import Author
from patchwright_runner.environment import EnvironmentCache
from patchwright_runner.history import newest
from patchwright_runner.mirror import Mirror
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.sandbox.pool import Pool
from patchwright_runner.sandbox.protocol import (
    Availability,
    Backend,
    BoxSpec,
    Entry,
    Limits,
    Sandbox,
)
from patchwright_runner.work import Runner
from patchwright_runner.workshop import Workshop

from .git_over_http import GitServer, serve
from .local_directory_sandbox import LocalDirectorySandbox

JOB = "7-2-issue-1"
TOKEN = "ghs_made_up_for_this_test"
TURN = Turn(1, Usage(100, 10, dollars=0.5), (), 0.1)

Act = Callable[[Observer, Sandbox], Awaitable[None]]


class Folder(LocalDirectorySandbox):
    """Already checked out; nothing changes in it but one file."""

    async def checkout(self, base: str) -> None:
        self.base = base

    async def collect(self, base: str, *, quick: bool = False) -> AsyncIterator[Entry]:
        assert base == self.base
        yield Entry("new.txt", "100644", b"new\n")


@dataclass
class Folders:
    root: Path
    name: str = "folders"

    async def available(self) -> Availability:
        return Availability(True, "always")

    async def start(self, spec: BoxSpec) -> Sandbox:
        assert spec.mirror is not None
        return Folder(self.root)

    async def sweep(self) -> int:
        return 0

    async def identity(self) -> str:
        return self.name


@dataclass
class Bench:
    """One runner with a scripted agent that does `act` and then says `says`."""

    bus: Bus
    claims: Claims
    server: GitServer
    origin: Repository
    base: str
    folder: Path
    job_id: str = JOB
    says: str = "Done."
    kind: str = "scripted"
    paid: Usage = Usage()  # noqa: RUF009 - frozen
    """What an attempt has used when it ends without a result."""
    backend: Backend | None = None
    """A folder for None, in which everything looks checked out."""
    used: list[Usage] = field(default_factory=list)
    resumed: list[Checkpoint | None] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    asked: list[TokenRequest] = field(default_factory=list)
    stale: str = ""
    """What the vault answers until it hears that it was refused."""

    async def request(self, *, clone_url: str = "", body: str = "") -> None:
        place = Place(
            id=7,
            full_name="octo/origin",
            clone_url=clone_url or self.server.address("origin.git"),
            default_branch="main",
            installation_id=1,
        )
        job = JobRequested(
            job_id=self.job_id, repository=place, issue_number=2, title="Title", body=body,
            sender="ada", base=self.base, attempt=1, delivery_id="d",
            requested_at=datetime.now(UTC),
        )  # fmt: skip
        await self.bus.emit(JOB_REQUESTED, job, step="requested", once=True)

    async def work(self, act: Act | None = None) -> None:
        bench = self

        class Scripted:
            used = bench.paid

            async def work(
                self,
                task: Task,
                sandbox: Sandbox,
                observer: Observer,
                *,
                resume: Checkpoint | None = None,
                feedback: str = "",
            ) -> AgentResult:
                assert task.title == "Title"
                bench.resumed.append(resume)
                bench.feedback.append(feedback)
                if act:
                    await act(observer, sandbox)
                turns = 1 + (resume.turns if resume else 0)
                return AgentResult(bench.says, Usage(1, 1, dollars=0.25), turns, [])

        class Troupe:
            def kind(self, config: RepositoryConfig) -> str:
                return bench.kind

            def model(self, config: RepositoryConfig) -> str:
                return config.model or "scripted"

            def programs(self, config: RepositoryConfig) -> Mapping[str, Path]:
                return {}

            async def make(self, job_id: str, config: RepositoryConfig, used: Usage) -> Agent:
                bench.used.append(used)
                return Scripted()

        shop = Workshop(
            name="bench",
            bus=self.bus,
            claims=self.claims,
            vault=Vault(self.bus, "runner"),
            mirror=Mirror(self.folder / "mirrors"),
            backend=Pool(self.backend or Folders(self.folder), size=0),
            limits=Limits(),
            environments=EnvironmentCache(self.folder / "environments", disk_bytes=10**9),
            agents=Troupe(),
            github=self.server.url,
            author=Author("Patchwright", "p@example.com"),
        )
        body = JobReadied(job_id=self.job_id).model_dump_json().encode()
        subject = JOB_READIED.subject(self.job_id)
        with telemetry.job(self.job_id):
            await Runner(shop).on_readied(Delivery(RUNNER_JOB_READIED, subject, body, {}, 1, 1))

    async def change(self) -> ChangeProduced | None:
        stored = await newest(self.bus, CHANGE_PRODUCED, JOB)
        return ChangeProduced.model_validate_json(stored.data or b"") if stored else None


@asynccontextmanager
async def at_work(bus: Bus, folder: Path) -> AsyncIterator[Bench]:
    """The bench, with a vault that gives out tokens."""
    repository = Repository.create(folder / "origin")
    claims = await Claims.open(bus.js)
    with serve(repository.bare.parent) as server:
        server.token = TOKEN
        made = Bench(bus, claims, server, repository, repository.base, folder)

        async def answer(message: Msg) -> None:
            request = Request.model_validate_json(message.data)
            asked = TokenRequest.model_validate_json(request.body)
            made.asked.append(asked)
            value = TOKEN if asked.refused or not made.stale else made.stale
            await message.respond(sealed_reply(Reply(value=value), request, "runner", "token"))

        await bus.client.subscribe("pw.rpc.vault.runner.token", cb=answer)
        yield made
