"""Many jobs at once: what a box costs the runner that holds it, and whether all come through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from nats.aio.msg import Msg
from pydantic import SecretStr

from harness.nats import bus, nats_server
from harness.programs import program
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.credentials import Reply, Request, Vault, sealed_reply
from patchwright_common.events import JobReadied, JobRequested
from patchwright_common.events import Repository as Place
from patchwright_common.flow import (
    CHANGE_PRODUCED,
    JOB_FAILED,
    JOB_READIED,
    JOB_REQUESTED,
    RUNNER_JOB_READIED,
    Route,
)
from patchwright_common.pull import PullLoop
from patchwright_runner.agent.claude import ClaudeAgent
from patchwright_runner.agent.protocol import Agent, Usage
from patchwright_runner.change import Author
from patchwright_runner.environment import EnvironmentCache
from patchwright_runner.mirror import Mirror
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.sandbox.pool import Pool
from patchwright_runner.sandbox.protocol import Backend, BoxSpec, Limits
from patchwright_runner.work import Runner
from patchwright_runner.workshop import Workshop
from standin_model.scripting import bash, edit, issue_with_script

from .origin import Origin

_KEY = "sk-made-up-for-the-bench"
_WARM = 2
"""Boxes that wait, as the runner's settings have it."""
_LOOK_SECONDS = 0.2
_MEGABYTE = 1_000_000
SCRIPT = issue_with_script(
    {"tools": [bash("ls | head -3; git status --short")]},
    {"tools": [edit("create", path="/workspace/made.txt", file_text="made\n")]},
    {"text": "Made a file."},
)
TURNS = 3


@dataclass(frozen=True)
class Claudes:
    """Our own agent for every job."""

    url: str

    def kind(self, config: RepositoryConfig) -> str:
        return "claude"

    def model(self, config: RepositoryConfig) -> str:
        return "claude-opus-5-5"

    def programs(self, config: RepositoryConfig) -> Mapping[str, Path]:
        return {}

    async def make(self, job_id: str, config: RepositoryConfig, used: Usage) -> Agent:
        return ClaudeAgent(api_key=SecretStr(_KEY), base_url=self.url, used=used)


@dataclass(frozen=True)
class Idle:
    """Megabytes for each box that waits: in the runner's process, and in the box's own."""

    runner: float
    box: float


@dataclass(frozen=True)
class Outcome:
    """How a crowd of jobs fared."""

    changes: int
    failures: int
    seconds: float
    megabytes: float
    """By which the runner's process grew at its largest, for each job."""


async def idle(backend: Backend, count: int) -> Idle:
    """Boxes that have run one command each, and then do nothing."""
    process = psutil.Process()
    async with AsyncExitStack() as boxes:
        # Its first box brings in what all others share.
        await boxes.enter_async_context(await backend.start(BoxSpec("bench")))
        before, boxes_before = process.memory_info().rss, _children(process)
        for _ in range(count):
            box = await boxes.enter_async_context(await backend.start(BoxSpec("bench")))
            await box.run("true", timeout=60)
        grown, boxes_grown = process.memory_info().rss - before, _children(process) - boxes_before
        return Idle(grown / count / _MEGABYTE, boxes_grown / count / _MEGABYTE)


def _children(process: psutil.Process) -> int:
    """Proportional, because boxes share Python's pages."""
    return sum(child.memory_full_info().pss for child in process.children(recursive=True))


async def crowd(backend: Backend, origin: Origin, jobs: int, delay: float, folder: Path) -> Outcome:
    """Jobs through the real handler, all at once, with a model that takes `delay` s a turn."""
    async with (
        nats_server(folder / "nats") as server,
        bus(server.url) as connection,
        program("standin-model", "--key", _KEY, "--delay", str(delay)) as model,
        aclosing(Pool(backend, size=_WARM)) as pool,
    ):
        url = (await model.line(r"ready at (\S+)"))[1]
        shop = await _workshop(connection, pool, origin, url, folder)
        async with _vault(connection):
            for number in range(1, jobs + 1):
                await _request(connection, origin, number)
            return await _watch(connection, shop, jobs)


async def _workshop(
    connection: Bus, pool: Pool, origin: Origin, model: str, folder: Path
) -> Workshop:
    return Workshop(
        name="bench",
        bus=connection,
        claims=await Claims.open(connection.js),
        vault=Vault(connection, "runner"),
        mirror=Mirror(folder / "mirrors"),
        backend=pool,
        limits=Limits(),
        environments=EnvironmentCache(folder / "environments", disk_bytes=10**9),
        agents=Claudes(model),
        github=origin.url.rpartition("/")[0],
        author=Author("Bench", "bench@example.com"),
    )


@asynccontextmanager
async def _vault(connection: Bus) -> AsyncIterator[None]:
    """Answers each request for a token; the origin takes anybody."""

    async def answer(message: Msg) -> None:
        request = Request.model_validate_json(message.data)
        await message.respond(sealed_reply(Reply(value="ghs_none"), request, "runner", "token"))

    subscription = await connection.client.subscribe("pw.rpc.vault.runner.token", cb=answer)
    try:
        yield
    finally:
        await subscription.unsubscribe()


async def _request(connection: Bus, origin: Origin, number: int) -> None:
    job_id = f"7-{number}-issue-1"
    place = Place(
        id=7,
        full_name="octo/origin",
        clone_url=origin.url,
        default_branch="main",
        installation_id=1,
    )
    job = JobRequested(
        job_id=job_id, repository=place, issue_number=number, title="Make a file", body=SCRIPT,
        sender="ada", base=origin.head, attempt=1, delivery_id="d", requested_at=datetime.now(UTC),
    )  # fmt: skip
    await connection.emit(JOB_REQUESTED, job, step="requested", once=True)
    await connection.emit(JOB_READIED, JobReadied(job_id=job_id), step="readied")


async def _watch(connection: Bus, shop: Workshop, jobs: int) -> Outcome:
    process = psutil.Process()
    before = largest = process.memory_info().rss
    began = time.perf_counter()
    loop = PullLoop(connection, RUNNER_JOB_READIED, Runner(shop).on_readied, slots=jobs)
    running = asyncio.create_task(loop.run())
    changes = failures = 0
    while changes + failures < jobs and not running.done():
        await asyncio.sleep(_LOOK_SECONDS)
        largest = max(largest, process.memory_info().rss)
        changes, failures = (
            await _count(connection, CHANGE_PRODUCED),
            await _count(connection, JOB_FAILED),
        )
    seconds = time.perf_counter() - began
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return Outcome(changes, failures, seconds, (largest - before) / jobs / _MEGABYTE)


async def _count(connection: Bus, route: Route) -> int:
    every = route.subject("any").removesuffix("any") + "*"
    info = await connection.js.stream_info(route.stream.name, subjects_filter=every)
    return len(info.state.subjects or {})
