"""The scripted model, with the gateway before it, for programs in a box."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from pydantic import SecretStr

from patchwright_runner.agent import Budget
from patchwright_runner.agent.program import Finished
from patchwright_runner.gateway import Gateway, GatewaySettings
from standin_model.app import create_app
from standin_model.server import running

from .agent_at_work import QUICK

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
