"""The real Claude Code in a real box."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.repositories import Repository
from patchwright_common.errors import Permanent
from patchwright_runner.agent import AgentResult
from patchwright_runner.agent.claude_code import ClaudeCodeAgent
from patchwright_runner.agent.claude_code_program import IN_BOX, find_program
from patchwright_runner.sandbox.protocol import Backend, BoxSpec
from patchwright_runner.sandbox.remote import RemoteBox

from .agent_at_work import Watcher, issue
from .conftest import LIMITS
from .model_behind_gateway import MODEL, ModelBehindGateway, model_behind_gateway


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
    backend: Backend, repository: Repository, *, pause_seconds: float = 3600, **budget: Any
) -> AsyncIterator[ClaudeCodeAtWork]:
    spec = BoxSpec("job-1", repository.bare, LIMITS, programs={IN_BOX: program()})
    async with model_behind_gateway(**budget) as model, await backend.start(spec) as box:
        assert isinstance(box, RemoteBox)
        await box.checkout(repository.base)
        agent = ClaudeCodeAgent(
            open_door=model.gateway,
            model=MODEL,
            budget=model.budget,
            pause_seconds=pause_seconds,
        )
        yield ClaudeCodeAtWork(model, box, agent)


def program() -> Path:
    """Absent, its tests are skipped, but a failure where CI promised it."""
    try:
        return find_program(path=os.environ["PATH"])
    except Permanent as error:
        if os.environ.get("CI") == "true":
            pytest.fail(error.reason)
        pytest.skip(f"{error.reason} .venv/bin/just claude-code installs it.")
