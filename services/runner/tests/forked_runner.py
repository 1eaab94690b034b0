"""Runners of one job, each a process that can be killed or paused: `forked_runner.py SETTINGS`.

SETTINGS is JSON with the fields of `Settings`. Each line on standard input starts another
runner, forked from here because importing all of it takes longer than the work. It says
`<pid> began` and `<pid> ended <how>`. All of them are killed when the input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nats
from pydantic import SecretStr

from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.credentials import Vault
from patchwright_common.errors import Overtaken
from patchwright_common.events import JobReadied
from patchwright_common.flow import JOB_READIED, RUNNER_JOB_READIED
from patchwright_common.messaging import Delivery
from patchwright_common.permissions import inbox
from patchwright_runner.agent.claude import ClaudeAgent
from patchwright_runner.agent.protocol import Agent, Usage
from patchwright_runner.change import Author
from patchwright_runner.environment import EnvironmentCache
from patchwright_runner.mirror import Mirror
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from patchwright_runner.sandbox.pool import Pool
from patchwright_runner.sandbox.protocol import Limits
from patchwright_runner.work import Runner
from patchwright_runner.workshop import Workshop

LIMITS = Limits(memory_bytes=192 * 1024**2, workspace_bytes=8 * 1024**2, wall_seconds=170)


@dataclass(frozen=True)
class Settings:
    job_id: str
    nats: str
    seed: str
    """The file of the runner's own key for NATS."""
    github: str
    model: str
    model_key: str
    runner_id: str
    folder: str


@dataclass(frozen=True)
class Claudes:
    settings: Settings

    def kind(self, config: RepositoryConfig) -> str:
        return "claude"

    def model(self, config: RepositoryConfig) -> str:
        return "scripted"

    def programs(self, config: RepositoryConfig) -> Mapping[str, Path]:
        return {}

    async def make(self, job_id: str, config: RepositoryConfig, used: Usage) -> Agent:
        key = SecretStr(self.settings.model_key)
        return ClaudeAgent(api_key=key, base_url=self.settings.model, used=used)


async def _work(settings: Settings) -> None:
    client = await nats.connect(
        settings.nats, nkeys_seed=settings.seed, inbox_prefix=inbox("runner")
    )
    bus, folder = Bus(client), Path(settings.folder)

    shop = Workshop(
        name=f"{settings.runner_id}-{os.getpid()}",
        bus=bus,
        claims=await Claims.open(bus.js),
        vault=Vault(bus, "runner"),
        mirror=Mirror(folder / "mirrors"),
        environments=EnvironmentCache(folder / "environments", disk_bytes=10**8),
        backend=Pool(BubblewrapBackend(settings.runner_id), size=0),
        limits=LIMITS,
        agents=Claudes(settings),
        github=settings.github,
        author=Author("Patchwright", "p@example.com"),
    )
    body = JobReadied(job_id=settings.job_id).model_dump_json().encode()
    subject = JOB_READIED.subject(settings.job_id)
    await Runner(shop).on_readied(Delivery(RUNNER_JOB_READIED, subject, body, {}, 1, 1))
    await client.close()


def _say(text: str) -> None:
    sys.stdout.write(f"{os.getpid()} {text}\n")
    sys.stdout.flush()


def _run(settings: Settings) -> None:
    """In the child; never returns."""
    _say("began")
    try:
        asyncio.run(_work(settings))
        _say("ended well")
    except Overtaken:
        _say("ended overtaken")
    except BaseException:  # noqa: BLE001 - a fork must not go on with its parent's code
        _say(f"ended by {traceback.format_exc()!r}")
    os._exit(0)


def main() -> None:
    settings = Settings(**json.loads(sys.argv[1]))
    children = []
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(settings)
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
