"""A claude agent, the scripted model behind HTTP, and somebody who watches."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from pydantic import SecretStr

from patchwright_runner.agent import AgentResult, ClaudeAgent, Patience, Task, Turn
from standin_model.app import create_app
from standin_model.server import running

from .local_directory_sandbox import LocalDirectorySandbox

QUICK = Patience(tries=3, first_wait=0.01, longest_wait=0.5, silence=1.0)


@dataclass
class Watcher:
    turns: list[Turn] = field(default_factory=list)
    stop_at: int | None = None
    stop_with: Exception | None = None

    async def turn_finished(self, turn: Turn) -> None:
        self.turns.append(turn)
        if turn.number == self.stop_at and self.stop_with:
            raise self.stop_with


@dataclass
class Stage:
    """Everything that a test of the agent plays with."""

    url: str
    key: str
    sandbox: LocalDirectorySandbox
    watcher: Watcher = field(default_factory=Watcher)

    def agent(self, **changes: Any) -> ClaudeAgent:
        settings = {
            "api_key": SecretStr(self.key),
            "model": "claude-opus-5-5",
            "base_url": self.url,
            "patience": QUICK,
            **changes,
        }
        return ClaudeAgent(**settings)

    async def work(self, body: str, title: str = "An issue", **changes: Any) -> AgentResult:
        return await self.agent(**changes).work(issue(body, title), self.sandbox, self.watcher)

    async def requests(self) -> list[dict[str, Any]]:
        """What the model was asked."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=10) as http:
            received: list[dict[str, Any]] = (await http.get("/_standin/requests")).json()
            return received


def issue(body: str, title: str = "An issue", **more: Any) -> Task:
    return Task(repository="octo/doorbell", issue_number=7, title=title, body=body, **more)


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    key = f"sk-{secrets.token_hex(24)}"
    async with running(create_app(key)) as url:
        yield Stage(url, key, LocalDirectorySandbox(folder))
