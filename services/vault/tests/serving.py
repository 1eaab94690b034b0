"""The real vault as a process, with the GitHub stand-in behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import nats

from harness.nats import NatsServer, nats_server
from harness.programs import Program, github_standin, program
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims, Outcome
from patchwright_common.credentials import Reply, TokenRequest, Vault
from patchwright_common.events import JobFinished, JobRequested, Repository
from patchwright_common.flow import DELIVERY_RECEIVED, JOB_FINISHED, JOB_REQUESTED
from patchwright_common.permissions import inbox
from standin_github.client import CreatedApp, StandinGitHub

READY = r'"text": "ready'
WEBHOOK_SECRET = f"webhook-{uuid4().hex}"
MODEL_KEY = f"sk-standin-{uuid4().hex}"
PERSON = "ada"


@dataclass
class Serving:
    """A vault that answers."""

    nats: NatsServer
    bus: Bus
    github: StandinGitHub
    app: CreatedApp
    vault: Program
    folder: Path
    environment: dict[str, str] = field(repr=False)

    async def install(self, *names: str) -> list[TokenRequest]:
        """New repositories of one new installation, as requests for tokens, each for a job."""
        owner = f"labs-{uuid4().hex[:8]}"
        wanted = [f"{owner}/{name}" for name in names]
        made = [
            await self.github.create_repository(name, {"README.md": "# Hello\n"}, private=True)
            for name in wanted
        ]
        installation = await self.github.install(self.app.id, wanted)
        return [
            await self.job(TokenRequest(installation_id=installation, repository_id=repository.id))
            for repository in made
        ]

    async def job(self, request: TokenRequest) -> TokenRequest:
        """The same for a new job, which triage has recorded."""
        job_id = await record_job(self.bus, request.installation_id, request.repository_id)
        return request.model_copy(update={"job_id": job_id})

    async def report(self, job_id: str, *, at: datetime | None = None) -> None:
        """The job's outcome is visible since `at`; the event that says so is `finish`."""
        claims = await Claims.open(self.bus.js)
        await claims.decide(job_id, Outcome(kind="answer", sequence=1))
        await claims.report(job_id, kind="answer", url="https://x/1", at=at or datetime.now(UTC))

    async def finish(self, job_id: str) -> None:
        """As the publisher does at the end."""
        await self.report(job_id)
        finished = JobFinished(job_id=job_id, result="answer", url="https://x/1")
        await self.bus.emit(JOB_FINISHED, finished, step="finished")

    async def deliver(
        self, event: str, action: str, body: bytes, *, delivery_id: str = "", **headers: str
    ) -> None:
        """A webhook as ingest stores it."""
        delivery_id = delivery_id or str(uuid4())
        await self.bus.publish(
            DELIVERY_RECEIVED,
            (event, action, "none"),
            body,
            message_id=f"{delivery_id}-{uuid4().hex}",
            headers={"x-github-delivery": delivery_id, **headers},
        )

    async def ask(
        self,
        caller: str,
        verb: str,
        body: str | TokenRequest = "{}",
        *,
        job_id: str | None = None,
    ) -> Reply:
        """The vault's answer, opened, whoever says to be asking."""
        sent = body if isinstance(body, str) else body.model_dump_json()
        if job_id is None:
            job_id = "" if isinstance(body, str) else body.job_id
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


async def record_job(bus: Bus, installation_id: int, repository_id: int) -> str:
    """Triage's record of a new job on that repository; its id."""
    job_id = f"{repository_id}-1-issue-{uuid4().hex[:8]}"
    requested = JobRequested(
        job_id=job_id,
        repository=Repository(
            id=repository_id,
            full_name="labs/ours",
            clone_url="http://127.0.0.1/labs/ours.git",
            default_branch="main",
            installation_id=installation_id,
        ),
        issue_number=1,
        title="Division is wrong",
        body="",
        sender=PERSON,
        base="0" * 40,
        attempt=1,
        delivery_id=uuid4().hex,
        requested_at=datetime.now(UTC),
    )
    await bus.emit(JOB_REQUESTED, requested, step="requested", once=True)
    return job_id


@asynccontextmanager
async def asking(server: NatsServer) -> AsyncIterator[Bus]:
    """A tester whom the vault may answer: it may write to the services' inboxes alone."""
    client = await nats.connect(
        server.url,
        inbox_prefix=inbox("ingest"),
        reconnect_time_wait=0.1,
        max_reconnect_attempts=-1,
        error_cb=_ignore,
    )
    try:
        yield Bus(client)
    finally:
        await client.close()


async def _ignore(_error: Exception) -> None:
    """nats-py prints every lost connection otherwise, and tests lose them on purpose."""


@asynccontextmanager
async def serving(folder: Path, **more: str) -> AsyncIterator[Serving]:
    """`more` are further variables of the vault."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(nats_server(folder / "nats"))
        bus = await enter(asking(server))
        github = await enter(StandinGitHub(await enter(github_standin(folder / "github"))))
        app = await github.create_app("Patchwright")
        environment = {
            **server.environment("vault"),
            "PATCHWRIGHT_GITHUB_API_URL": github.api_url,
            "PATCHWRIGHT_VAULT_KEY_FILE": str(folder / "vault.key"),
            "PATCHWRIGHT_GITHUB_APP_ID": app.client_id,
            "PATCHWRIGHT_GITHUB_PRIVATE_KEY": app.private_key,
            "PATCHWRIGHT_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "ANTHROPIC_API_KEY": MODEL_KEY,
            "PATCHWRIGHT_LOG_LEVEL": "DEBUG",
            **more,
        }
        vault = await enter(program("patchwright-vault", environment=environment))
        await vault.line(READY)
        yield Serving(server, bus, github, app, vault, folder, environment)


def request(**fields: object) -> str:
    return json.dumps(fields)
