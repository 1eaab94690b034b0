"""A runner that is killed or paused at any turn of ten: at most that turn is done twice."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harness import signals
from harness.boxes import unused_runner_id, working
from harness.nats import NatsServer
from harness.programs import Program
from harness.repositories import git
from patchwright_common.bus import Bus
from patchwright_common.flow import PW_CHANGES
from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from standin_model.app import create_app
from standin_model.server import running

from .forked_runner import Settings
from .runner_at_work import JOB, Bench, at_work

TURNS = 10
SECONDS = 60.0
NOTES = "".join(f"note {number}\n" for number in range(1, TURNS))


@dataclass
class Model:
    """The scripted model; `at_turn` happens before a request for that turn is answered."""

    app: ASGIApp
    at_turn: Callable[[int], Awaitable[None]] | None = None
    asked: Counter[int] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        said = [message["role"] for message in json.loads(body)["messages"]]
        turn = said.count("assistant") + 1
        self.asked[turn] += 1
        if self.at_turn:
            await self.at_turn(turn)

        unread = [body]

        async def again() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return await receive()

        await self.app(scope, again, send)


@dataclass
class Runners:
    """Processes that work on the job."""

    program: Program
    begun: list[int] = field(default_factory=list)

    async def start(self) -> int:
        """The process id of one more."""
        stdin = self.program.process.stdin
        assert stdin is not None
        stdin.write(b"\n")
        place = len(self.begun)
        async with asyncio.timeout(SECONDS):
            while len(self._pids()) == place:
                await asyncio.sleep(0.005)
        self.begun = self._pids()
        return self.begun[place]

    def _pids(self) -> list[int]:
        return [int(line.split()[0]) for line in self.program.lines if line.endswith(" began")]

    async def ending(self, pid: int) -> str:
        """How it ended by itself."""
        return (await self.program.line(rf"^{pid} ended (.*)", timeout=SECONDS))[1]


@dataclass
class Stage:
    bench: Bench
    model: Model
    runners: Runners

    async def notes(self) -> str:
        """What the change holds of notes.txt, from the bundle itself."""
        change = await self.bench.change()
        assert change is not None
        data = await self.bench.bus.get(PW_CHANGES, change.bundle_sha256, limit=2**20)
        bundle = self.bench.folder / "change.bundle"
        bundle.write_bytes(data)
        repository = self.bench.folder / "origin.git"
        git(repository, "fetch", "--quiet", str(bundle), "refs/heads/patchwright:refs/heads/made")
        return git(repository, "show", "made:notes.txt") + "\n"


@pytest.fixture
async def stage(nats: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Stage]:
    await working("bubblewrap", BubblewrapBackend(unused_runner_id()))
    key = f"sk-{secrets.token_hex(24)}"
    model = Model(create_app(key))
    async with at_work(bus, tmp_path) as bench, running(model) as url:
        await bench.request(body="scenario: ten-turns")
        runner = nats.environment("runner")
        settings = Settings(
            job_id=JOB,
            nats=runner["PATCHWRIGHT_NATS_URL"],
            seed=runner["PATCHWRIGHT_NATS_NKEY_FILE"],
            github=bench.server.url,
            model=url,
            model_key=key,
            runner_id=unused_runner_id(),
            folder=str(tmp_path),
        )
        async with _runners(settings) as runners:
            yield Stage(bench, model, runners)


@asynccontextmanager
async def _runners(settings: Settings) -> AsyncIterator[Runners]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("forked_runner.py")),
        json.dumps(asdict(settings)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    try:
        yield Runners(Program(process))
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def test_runner_killed_at_every_turn_loses_at_most_that_turn(stage: Stage) -> None:
    killed: list[int] = []
    died = asyncio.Event()

    async def kill_once(turn: int) -> None:
        if turn not in killed:
            killed.append(turn)
            os.kill(stage.runners.begun[-1], signal.SIGKILL)
            died.set()

    stage.model.at_turn = kill_once
    last = await stage.runners.start()
    for _ in range(TURNS):
        async with asyncio.timeout(SECONDS):
            await died.wait()
        died.clear()
        last = await stage.runners.start()

    assert await stage.runners.ending(last) == "well"
    assert killed == list(range(1, TURNS + 1))
    assert stage.model.asked == Counter(dict.fromkeys(killed, 2))
    assert await stage.notes() == NOTES
    claim = await stage.bench.claims.claim(JOB)
    assert claim is not None
    assert claim.epoch == TURNS + 1


async def test_runner_that_was_paused_and_wakes_after_a_takeover_changes_nothing(
    stage: Stage,
) -> None:
    paused = asyncio.Event()
    middle = TURNS // 2

    async def pause_once(turn: int) -> None:
        if turn == middle and not paused.is_set():
            signals.pause(stage.runners.begun[0])
            paused.set()

    stage.model.at_turn = pause_once
    first = await stage.runners.start()
    async with asyncio.timeout(SECONDS):
        await paused.wait()
    second = await stage.runners.start()
    assert await stage.runners.ending(second) == "well"
    before = await _everything(stage.bench)

    signals.wake(first)

    assert await stage.runners.ending(first) == "overtaken"
    assert await _everything(stage.bench) == before
    repeated = {turn for turn, times in stage.model.asked.items() if times > 1}
    assert repeated == {middle}
    assert await stage.notes() == NOTES


async def _everything(bench: Bench) -> list[tuple[str, int]]:
    """Each stream's and bucket's last sequence: whatever is written raises one."""
    streams = await bench.bus.js.streams_info()
    return [(info.config.name or "", info.state.last_seq) for info in streams]
