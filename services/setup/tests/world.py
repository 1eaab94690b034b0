"""Everything that set-up meets, for real: NATS, the vault, ingest, a GitHub and a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from harness.nats import NatsServer, nats_server
from harness.programs import Program, free_port, github_elsewhere, model_standin, program
from standin_github.client import StandinGitHub

READY = r'"text": "ready'
LINK = r"(http\S+/start\?token=\S+)"
PERSON = "ada"
ORGANIZATION = "engines"


@dataclass
class World:
    """`model_key` is what the model takes, `webhook_url` leads to ingest."""

    nats: NatsServer
    github: StandinGitHub
    webhook_url: str
    model_key: str
    vault: Program
    ingest: Program
    setup_port: int

    @asynccontextmanager
    async def setup(self, **environment: str) -> AsyncIterator[Program]:
        """`patchwright-setup`; each time on the same port, as GitHub leads back to that."""
        known = {
            "PATCHWRIGHT_SETUP_PORT": str(self.setup_port),
            "PATCHWRIGHT_GITHUB_URL": self.github.base_url,
            "PATCHWRIGHT_WEBHOOK_URL": self.webhook_url,
            "PATCHWRIGHT_LOG_LEVEL": "DEBUG",
        }
        settings = self.nats.environment("setup") | known | environment
        async with program("patchwright-setup", environment=settings) as running:
            await running.line(READY)
            yield running


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """With a person and an organisation, each of them with a repository."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        nats = await enter(nats_server(folder / "nats"))
        github = await enter(StandinGitHub(await enter(github_elsewhere(folder / "github"))))
        key = f"sk-ant-{uuid4().hex}"
        model = await enter(model_standin(key))
        vault = await enter(program("patchwright-vault", environment=_vault(nats, folder, model)))
        ingest = await enter(program("patchwright-ingest", environment=_ingest(nats)))
        port = (await ingest.line(r"listening on 127\.0\.0\.1 port (\d+)"))[1]
        await vault.line(READY)
        await github.create_user(PERSON)
        await github.create_repository(f"{PERSON}/notes", {"README.md": "# Notes\n"}, private=True)
        await github.create_repository(f"{ORGANIZATION}/loom", {"README.md": "# Loom\n"})
        webhook_url = f"http://127.0.0.1:{port}/webhooks/github"
        yield World(nats, github, webhook_url, key, vault, ingest, free_port())


def _vault(nats: NatsServer, folder: Path, model: str) -> dict[str, str]:
    return nats.environment("vault") | {
        "PATCHWRIGHT_VAULT_KEY_FILE": str(folder / "vault.key"),
        "ANTHROPIC_BASE_URL": model,
    }


def _ingest(nats: NatsServer) -> dict[str, str]:
    return nats.environment("ingest") | {"PATCHWRIGHT_INGEST_PORT": "0"}
