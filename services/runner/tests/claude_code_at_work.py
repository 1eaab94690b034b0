"""The real Claude Code in a real box, with the gateway and the scripted model behind its door."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_runner.agent import AgentResult, Budget
from patchwright_runner.agent.claude_code import ClaudeCodeAgent
from patchwright_runner.agent.claude_code_program import IN_BOX, find_program
from patchwright_runner.agent.program import Finished
from patchwright_runner.gateway import Gateway, GatewaySettings
from patchwright_runner.sandbox.protocol import Backend, BoxSpec
from patchwright_runner.sandbox.remote import RemoteBox
from standin_model.app import create_app
from standin_model.server import running

from .agent_at_work import QUICK, Watcher, issue
from .conftest import LIMITS
from .repositories import Repository

MODEL = "claude-opus-5-5"


@dataclass
class ModelBehindGateway:
    """The scripted model and the way to it."""

    url: str
    key: str
    budget: Budget

    def gateway(self, *, turns: int = 0, finished: Finished | None = None) -> Gateway:
        settings = GatewaySettings(
            self.url, SecretStr(self.key), MODEL, budget=self.budget, turns=turns, patience=QUICK
        )
        return Gateway(settings, finished)

    async def requests(self) -> list[dict[str, Any]]:
        """What the model was asked."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=30) as http:
            received: list[dict[str, Any]] = (await http.get("/_standin/requests")).json()
            return received


@asynccontextmanager
async def model_behind_gateway(**budget: Any) -> AsyncIterator[ModelBehindGateway]:
    key = f"sk-{secrets.token_hex(24)}"
    async with running(create_app(key)) as url:
        yield ModelBehindGateway(url, key, Budget(**budget))


@dataclass
class ClaudeCodeAtWork:
    model: ModelBehindGateway
    box: RemoteBox
    agent: ClaudeCodeAgent
    watcher: Watcher = field(default_factory=Watcher)

    async def work(self, body: str, **more: Any) -> AgentResult:
        return await self.agent.work(issue(body), self.box, self.watcher, **more)


@asynccontextmanager
async def claude_code(
    backend: Backend, repository: Repository, **budget: Any
) -> AsyncIterator[ClaudeCodeAtWork]:
    spec = BoxSpec("job-1", repository.bare, LIMITS, programs={IN_BOX: program()})
    async with model_behind_gateway(**budget) as model, await backend.start(spec) as box:
        assert isinstance(box, RemoteBox)
        await box.checkout(repository.base)
        agent = ClaudeCodeAgent(open_door=model.gateway, model=MODEL, budget=model.budget)
        yield ClaudeCodeAtWork(model, box, agent)


def program() -> Path:
    """Absent, its tests are skipped, but a failure where CI promised it."""
    try:
        return find_program(path=os.environ["PATH"])
    except Permanent as error:
        if os.environ.get("CI") == "true":
            pytest.fail(error.reason)
        pytest.skip(f"{error.reason} .venv/bin/just claude-code installs it.")
