"""What a runner does around the agent: whose job it is, where tokens go, what it may cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from pydantic import SecretStr

from harness.nats import NatsServer
from harness.repositories import Repository
from patchwright_common import telemetry
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.credentials import (
    Reply,
    Request,
    TokenRequest,
    Vault,
    digest,
    sealed_reply,
)
from patchwright_common.errors import Overtaken, Permanent, Retry
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
from patchwright_github.address import lies_on, origin
from patchwright_runner.agent.protocol import AgentResult, Observer, Task, Turn, Usage
from patchwright_runner.change import Author
from patchwright_runner.history import newest
from patchwright_runner.mirror import Mirror
from patchwright_runner.sandbox.pool import Pool
from patchwright_runner.sandbox.protocol import Availability, BoxSpec, Entry, Limits, Sandbox
from patchwright_runner.work import Runner, Workshop

from .git_over_http import GitServer, serve
from .local_directory_sandbox import LocalDirectorySandbox

JOB = "7-2-issue-1"
TOKEN = "ghs_made_up_for_this_test"
TURN = Turn(1, Usage(100, 10, dollars=0.5), (), 0.1)

Act = Callable[[Observer], Awaitable[None]]


class Folder(LocalDirectorySandbox):
    """Already checked out; nothing changes in it but one file."""

    async def checkout(self, base: str) -> None:
        self.base = base

    async def collect(self, base: str) -> AsyncIterator[Entry]:
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


@dataclass
class Bench:
    """One runner with a scripted agent that does `act` and then says `says`."""

    bus: Bus
    claims: Claims
    server: GitServer
    base: str
    folder: Path
    says: str = "Done."
    used: list[Usage] = field(default_factory=list)
    asked: list[TokenRequest] = field(default_factory=list)
    stale: str = ""
    """What the vault answers until it hears that it was refused."""

    async def request(self, *, clone_url: str = "") -> None:
        place = Place(
            id=7,
            full_name="octo/origin",
            clone_url=clone_url or self.server.address("origin.git"),
            default_branch="main",
            installation_id=1,
        )
        job = JobRequested(
            job_id=JOB, repository=place, issue_number=2, title="Title", body="", sender="ada",
            base=self.base, attempt=1, delivery_id="d", requested_at=datetime.now(UTC),
        )  # fmt: skip
        await self.bus.emit(JOB_REQUESTED, job, step="requested", once=True)

    async def work(self, act: Act | None = None) -> None:
        bench = self

        class Agent:
            async def work(self, task: Task, sandbox: Sandbox, observer: Observer) -> AgentResult:
                assert task.title == "Title"
                assert sandbox
                if act:
                    await act(observer)
                return AgentResult(bench.says, Usage(1, 1, dollars=0.25), 1, [])

        async def make_agent(_job_id: str, used: Usage) -> Agent:
            bench.used.append(used)
            return Agent()

        shop = Workshop(
            name="bench",
            bus=self.bus,
            claims=self.claims,
            vault=Vault(self.bus, "runner"),
            mirror=Mirror(self.folder / "mirrors"),
            backend=Pool(Folders(self.folder), size=0),
            limits=Limits(),
            make_agent=make_agent,
            github=self.server.url,
            model="scripted",
            author=Author("Patchwright", "p@example.com"),
        )
        body = JobReadied(job_id=JOB).model_dump_json().encode()
        subject = JOB_READIED.subject(JOB)
        with telemetry.job(JOB):
            await Runner(shop).on_readied(Delivery(RUNNER_JOB_READIED, subject, body, {}, 1, 1))

    async def change(self) -> ChangeProduced | None:
        stored = await newest(self.bus, CHANGE_PRODUCED, JOB)
        return ChangeProduced.model_validate_json(stored.data or b"") if stored else None


@pytest.fixture
async def bench(bus: Bus, tmp_path: Path) -> AsyncIterator[Bench]:
    repository = Repository.create(tmp_path / "origin")
    claims = await Claims.open(bus.js)
    with serve(repository.bare.parent) as server:
        server.token = TOKEN
        made = Bench(bus, claims, server, repository.base, tmp_path)

        async def answer(message: Msg) -> None:
            request = Request.model_validate_json(message.data)
            asked = TokenRequest.model_validate_json(request.body)
            made.asked.append(asked)
            value = TOKEN if asked.refused or not made.stale else made.stale
            await message.respond(sealed_reply(Reply(value=value), request, "runner", "token"))

        await bus.client.subscribe("pw.rpc.vault.runner.token", cb=answer)
        yield made


async def test_job_ends_in_a_change_on_its_base(bench: Bench) -> None:
    await bench.request()

    await bench.work()

    change = await bench.change()
    assert change is not None
    assert [file.path for file in change.files] == ["new.txt"]
    assert change.base == bench.base


async def test_token_that_was_revoked_meanwhile_is_replaced(bench: Bench) -> None:
    await bench.request()
    bench.stale = "ghs_revoked"

    await bench.work()

    assert await bench.change() is not None
    assert [asked.refused for asked in bench.asked] == ["", digest(SecretStr("ghs_revoked"))]
    assert {asked.job_id for asked in bench.asked} == {JOB}


async def test_token_that_is_refused_again_and_again_is_a_retry(bench: Bench) -> None:
    await bench.request()
    bench.server.token = "ghs_another"

    with pytest.raises(Retry, match="Fetching"):
        await bench.work()

    assert len(bench.asked) == 2


async def test_repository_on_a_foreign_host_gets_no_token(bench: Bench, tmp_path: Path) -> None:
    with serve(tmp_path) as foreign:
        await bench.request(clone_url=foreign.address("origin.git"))

        with pytest.raises(Permanent, match="another host"):
            await bench.work()

        assert foreign.requests == []
    assert bench.asked == []


@pytest.mark.parametrize(
    ("clone_url", "api_url", "belongs"),
    [
        ("https://github.com/a/b.git", "https://api.github.com", True),
        ("https://ghe.example/a/b.git", "https://ghe.example/api/v3", True),
        ("https://acme.ghe.com/a/b.git", "https://api.acme.ghe.com", True),
        ("http://127.0.0.1:8081/a/b.git", "http://127.0.0.1:8081/api/v3", True),
        ("http://github.com/a/b.git", "https://api.github.com", False),
        ("https://github.com.evil.example/a/b.git", "https://api.github.com", False),
        ("https://github.com:8443/a/b.git", "https://api.github.com", False),
        ("https://github.com:x/a/b.git", "https://api.github.com", False),
        ("/a/b.git", "https://api.github.com", False),
    ],
)
def test_address_belongs_to_one_github_alone(clone_url: str, api_url: str, belongs: bool) -> None:
    assert lies_on(clone_url, origin(api_url)) is belongs


async def test_attempts_share_the_budget_of_their_job(bench: Bench) -> None:
    async def fail(observer: Observer) -> None:
        await observer.turn_finished(TURN)
        raise Retry("the model is away")

    await bench.request()
    for _ in range(2):
        with pytest.raises(Retry):
            await bench.work(fail)
    await bench.work()

    assert [used.dollars for used in bench.used] == [0.0, 0.5, 1.0]
    assert [used.tokens for used in bench.used] == [0, 110, 220]
    change = await bench.change()
    assert change is not None
    assert (change.spent.dollars, change.spent.turns) == (1.25, 3)


async def test_bus_that_is_away_for_a_turn_does_not_throw_the_work_away(
    bench: Bench, nats: NatsServer
) -> None:
    async def outage(observer: Observer) -> None:
        nats.pause()
        try:
            await observer.turn_finished(TURN)
        finally:
            nats.wake()

    await bench.request()
    await bench.work(outage)

    assert await bench.change() is not None


async def test_overtaken_runner_does_not_acknowledge_what_it_handed_on(bench: Bench) -> None:
    """Its acknowledgement would clear the message of the runner that works on the job now."""
    await bench.request()
    bus, emit = bench.bus, Bus.emit

    class Slow(Bus):
        async def emit(self, route, event, *, step, once=False):  # type: ignore[no-untyped-def]
            if route is CHANGE_PRODUCED:
                await bench.claims.take(JOB, "another")
            return await emit(bus, route, event, step=step, once=once)

    bench.bus = Slow(bus.client)

    with pytest.raises(Overtaken):
        await bench.work()


async def test_change_that_was_handed_on_is_not_made_again(bench: Bench) -> None:
    await bench.request()
    await bench.work()

    await bench.work()

    assert len(bench.used) == 1


async def test_half_a_surrogate_pair_in_the_last_words_loses_nothing(bench: Bench) -> None:
    await bench.request()
    bench.says = "Half a \ud83d pair."

    await bench.work()

    change = await bench.change()
    assert change is not None
    assert change.summary == "Half a ? pair."
