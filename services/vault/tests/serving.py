"""The real vault as a process, with the GitHub stand-in behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from harness.nats import bus as connect
from harness.nats import nats_server
from harness.programs import Program, github_standin, program
from patchwright_common.bus import Bus
from patchwright_common.credentials import Reply, TokenRequest, Vault
from standin_github.client import CreatedApp, StandinGitHub

READY = r'"text": "ready'
WEBHOOK_SECRET = f"webhook-{uuid4().hex}"
MODEL_KEY = f"sk-standin-{uuid4().hex}"
PERSON = "ada"


@dataclass
class Serving:
    """A vault that answers."""

    bus: Bus
    github: StandinGitHub
    app: CreatedApp
    vault: Program
    folder: Path

    async def install(self, *names: str) -> list[TokenRequest]:
        """New repositories of one new installation, as requests for tokens."""
        owner = f"labs-{uuid4().hex[:8]}"
        wanted = [f"{owner}/{name}" for name in names]
        made = [
            await self.github.create_repository(name, {"README.md": "# Hello\n"}, private=True)
            for name in wanted
        ]
        installation = await self.github.install(self.app.id, wanted)
        return [
            TokenRequest(installation_id=installation, repository_id=repository.id)
            for repository in made
        ]

    async def ask(
        self, caller: str, verb: str, body: str | TokenRequest = "{}", *, job_id: str = ""
    ) -> Reply:
        """The vault's answer, opened, whoever says to be asking."""
        sent = body if isinstance(body, str) else body.model_dump_json()
        return await Vault(self.bus, caller).exchange(verb, sent, job_id=job_id)

    async def token(self, caller: str, request: TokenRequest) -> str:
        reply = await self.ask(caller, "token", request)
        assert reply.value, reply.error
        return reply.value

    async def minted(self, request: TokenRequest) -> int:
        """How often GitHub was asked for a token of this installation."""
        path = f"/app/installations/{request.installation_id}/access_tokens"
        return len(await self.github.requests("POST", path))

    async def name_of(self, request: TokenRequest, token: str) -> str:
        """The full name of the repository, as the token sees it."""
        found = await self.github.api("GET", f"/repositories/{request.repository_id}", token=token)
        return str(found["full_name"])

    async def status(self, method: str, path: str, token: str, body: Any = None) -> int:
        """What GitHub answers to this token."""
        try:
            await self.github.api(method, path, body, token=token)
        except httpx.HTTPStatusError as error:
            return error.response.status_code
        return 200


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Serving]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(nats_server(folder / "nats"))
        bus = await enter(connect(server.url))
        github = await enter(StandinGitHub(await enter(github_standin(folder / "github"))))
        app = await github.create_app("Patchwright")
        environment = {
            "PATCHWRIGHT_NATS_URL": server.url,
            "PATCHWRIGHT_GITHUB_API_URL": github.api_url,
            "PATCHWRIGHT_VAULT_KEY_FILE": str(folder / "vault.key"),
            "PATCHWRIGHT_GITHUB_APP_ID": app.client_id,
            "PATCHWRIGHT_GITHUB_PRIVATE_KEY": app.private_key,
            "PATCHWRIGHT_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "ANTHROPIC_API_KEY": MODEL_KEY,
            "PATCHWRIGHT_LOG_LEVEL": "DEBUG",
        }
        vault = await enter(program("patchwright-vault", environment=environment))
        await vault.line(READY)
        yield Serving(bus, github, app, vault, folder)


def request(**fields: object) -> str:
    return json.dumps(fields)
