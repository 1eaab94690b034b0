"""A run in which everything goes wrong that can go wrong, each in a repository of its own."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from harness.stack import RunningStack
from harness.stored import messages_of
from patchwright_local.demo_app import PERSON
from standin_github.client import StandinGitHub
from standin_model.scripting import bash, issue_with_script

from . import requests_of_the_vault
from .canaries import canaries
from .looking import exploring

TIME_LIMIT = 90.0
"""Seconds for one story."""
WRITING = issue_with_script(
    {"tools": [bash("echo new > new.txt")]}, {"text": "A file is new."}, words="Write a file."
)
SLOW = issue_with_script(
    {"tools": [bash("echo one > one.txt")], "delay": 1.0},
    {"tools": [bash("echo two > two.txt")], "delay": 1.0},
    {"text": "Two files are new.", "delay": 1.0},
)
ANSWERING = issue_with_script({"text": "It greets."}, words="What does it do?")
REFUSED = issue_with_script({"text": "I will not.", "stop_reason": "refusal"})
WRONG_KEY = issue_with_script(
    {"text": "Never said.", "failures": [{"status": 401, "echo": True}]}, words="A wrong key."
)
BAD_REQUEST = issue_with_script(
    {"text": "Never said.", "failures": [{"status": 400, "echo": True}]}, words="A bad request."
)
STUMBLING = issue_with_script(
    {
        "tools": [bash("ls")],
        "failures": [
            {"status": 429, "retry_after": 0.1},
            {"status": 529, "echo": True},
            {"stream": "drop"},
        ],
    },
    {"text": "Done.", "failures": [{"stream": "error"}]},
)
WORKFLOW = issue_with_script(
    {"tools": [bash("mkdir -p .github/workflows && echo 'on: push' > .github/workflows/x.yml")]},
    {"text": "A workflow is new."},
)
TEXT = {"content-type": "text/plain"}
"""Git shows what a server says in plain text."""


@dataclass(frozen=True)
class Site:
    """A repository with an installation of its own."""

    name: str
    repository_id: int
    installation_id: int

    @property
    def minting(self) -> str:
        return f"^/api/v3/app/installations/{self.installation_id}/access_tokens"

    def api(self, rest: str) -> str:
        return f"^/api/v3/repos/{re.escape(self.name)}/{rest}"

    def git(self, rest: str) -> str:
        return f"^/{re.escape(self.name)}(.git)?/{rest}"


class Stories:
    """What happens in a full run. Each method is one story; its end is checked."""

    def __init__(self, stack: RunningStack, github: StandinGitHub, js: JetStreamContext) -> None:
        self._stack = stack
        self._github = github
        self._js = js
        self.jobs: dict[str, str] = {}
        """Job ids by story."""

    # --- what works --------------------------------------------------------------------

    async def exploring(self) -> None:
        """An agent looks for secrets and its change becomes a pull request."""
        assert await self._ends(await self._ask("exploring", exploring())) == "pull_request"

    async def answering(self) -> None:
        assert await self._ends(await self._ask("answering", ANSWERING)) == "answer"

    # --- the model ---------------------------------------------------------------------

    async def refusing(self) -> None:
        assert await self._ends(await self._ask("refusing", REFUSED)) == "failure"

    async def stumbling(self) -> None:
        assert await self._ends(await self._ask("stumbling", STUMBLING)) == "answer"

    async def wrong_key(self) -> None:
        assert await self._ends(await self._ask("wrong-key", WRONG_KEY)) == "failure"

    async def bad_request(self) -> None:
        """What the model's server says about it is quoted to the maintainer."""
        assert await self._ends(await self._ask("bad-request", BAD_REQUEST)) == "failure"

    # --- tokens ------------------------------------------------------------------------

    async def minting_stumbles(self) -> None:
        site = await self._site("minting-stumbles")
        await self._fault(site.minting, status=401, echo=True)
        await self._fault(site.minting, status=500, echo=True)
        assert await self._ends(await self._ask_at(site, WRITING)) == "pull_request"

    async def minting_refused_to_the_runner(self) -> None:
        """Triage gets its token; then GitHub does not know the installation for a while."""
        site = await self._site("minting-refused")
        await self._fault(site.minting)  # that one goes its way
        await self._fault(site.minting, status=404, times=2, echo=True)
        assert await self._ends(await self._ask_at(site, WRITING)) == "failure"

    async def minting_refused(self, status: int) -> None:
        """Nobody can be told on GitHub: a dead letter."""
        site = await self._site(f"minting-{status}")
        await self._fault(site.minting, status=status, times=1000, echo=True)
        await self._file(site, WRITING)
        await self._dead_letter(site)

    async def suspended(self) -> None:
        site = await self._site("suspended")
        await self._github.suspend(site.installation_id)
        await self._file(site, WRITING)

    # --- GitHub ------------------------------------------------------------------------

    async def api_stumbles(self) -> None:
        site = await self._site("api-stumbles")
        for status in (401, 500):
            await self._fault(site.api("issues/"), status=status, echo=True)
        # The acknowledgement is refused for good, which is a dead letter of the publisher's.
        comments = site.api("issues/1/comments")
        await self._fault(comments, method="POST", status=403, echo=True)
        await self._fault(site.api("pulls"), method="POST", drop=True, after=True)
        assert await self._ends(await self._ask_at(site, WRITING)) == "pull_request"

    async def result_refused(self) -> None:
        """The branch is pushed, and GitHub will not have the pull request, in its words."""
        site = await self._site("result-refused")
        await self._fault(site.api("pulls"), method="POST", status=422, times=1000, echo=True)
        assert await self._ends(await self._ask_at(site, WRITING)) == "failure"

    async def clone_refused(self) -> None:
        site = await self._site("clone-refused")
        for status in (401, 500, 403):
            await self._fault(site.git("info/refs"), status=status, echo=True, headers=TEXT)
        assert await self._ends(await self._ask_at(site, WRITING)) == "failure"

    async def push_refused(self) -> None:
        site = await self._site("push-refused")
        path = site.git("info/refs.*git-receive-pack")
        await self._fault(path, status=500, echo=True, headers=TEXT)
        await self._fault(path, status=403, times=1000, echo=True, headers=TEXT)
        assert await self._ends(await self._ask_at(site, WRITING)) == "failure"

    async def workflow_refused(self) -> None:
        assert await self._ends(await self._ask("workflow", WORKFLOW)) == "failure"

    # --- what people and programs send -------------------------------------------------

    async def bad_webhooks(self) -> None:
        head = {"content-type": "application/json", "x-github-event": "issues"}
        named = head | {"x-github-delivery": "d-1"}
        signed = named | {"x-hub-signature-256": f"sha256={'0' * 64}"}
        async with httpx.AsyncClient(trust_env=False) as http:
            for headers in (head, named, signed, signed | {"content-type": "text/plain"}):
                answer = await http.post(
                    self._stack.at.webhook_url, content=b'{"action": "opened"}', headers=headers
                )
                assert answer.is_client_error

    async def malformed_message(self) -> None:
        """A dead letter of the runner: the event does not fit."""
        job = self.jobs["answering"]
        subject = f"pw.evt.job.readied.{job}"
        await self._js.publish(subject, b'{"job_id": 1, "?": "not an event"}')
        subject = f"pw.dlq.runner.*.*.{job}"
        await self._until(lambda: self._count("PW_DLQ", subject), subject)

    async def bad_requests(self) -> None:
        """Secrets in the wrong fields of requests to the vault; then rotations."""
        known = {canary.name: canary for canary in await canaries(self._stack)}.values()
        await requests_of_the_vault.refused(self._stack, self.jobs["answering"], known)
        await requests_of_the_vault.chores(self._stack, known)

    # --- crashes -----------------------------------------------------------------------

    async def killed(self) -> None:
        """Vault, publisher and runner are killed while a job is on its way."""
        job = await self._ask("killed", SLOW)
        await self._event(job, "job.progressed")
        for service in ("vault", "publisher", "runner"):
            self._stack.kill(service)
        self._again.set()
        assert await self._ends(job) == "pull_request"

    # --- how ---------------------------------------------------------------------------

    async def all(self) -> None:
        """Everything at once; raises for the first story that ends otherwise."""
        self._again = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.killed())
            await self._again.wait()
            for story in (
                self.exploring(),
                self._in_turn(self.answering, self.malformed_message, self.bad_requests),
                self.refusing(),
                self.stumbling(),
                self.wrong_key(),
                self.bad_request(),
                self.minting_stumbles(),
                self.minting_refused_to_the_runner(),
                self.minting_refused(404),
                self.minting_refused(422),
                self.suspended(),
                self.api_stumbles(),
                self.result_refused(),
                self.clone_refused(),
                self.push_refused(),
                self.workflow_refused(),
                self.bad_webhooks(),
            ):
                group.create_task(story)

    @staticmethod
    async def _in_turn(*stories: Callable[[], Awaitable[None]]) -> None:
        for story in stories:
            await story()

    async def _site(self, name: str) -> Site:
        full_name = f"{name}-labs/{name}"
        made = await self._github.create_repository(
            full_name, {"README.md": f"# {name}\n"}, collaborators={PERSON: "write"}
        )
        [app] = (await self._github.state())["apps"]
        installation = await self._github.install(app["id"], [full_name])
        return Site(full_name, made.id, installation)

    async def _file(self, site: Site, body: str) -> int:
        issue = await self._github.open_issue(
            site.name, "Please", body, token=self._stack.token, labels=["patchwright"]
        )
        return int(issue["number"])

    async def _ask(self, name: str, body: str) -> str:
        return await self._ask_at(await self._site(name), body)

    async def _ask_at(self, site: Site, body: str) -> str:
        """The job's id."""
        number = await self._file(site, body)
        job = f"{site.repository_id}-{number}-issue-1"
        self.jobs[site.name.partition("/")[2]] = job
        return job

    async def _fault(self, path: str, **trouble: Any) -> None:
        await self._github.fault(path=path, **trouble)

    async def _ends(self, job: str) -> str:
        return str((await self._event(job, "job.finished"))["result"])

    async def _event(self, job: str, name: str) -> dict[str, Any]:
        async def found() -> dict[str, Any] | None:
            try:
                message = await self._js.get_last_msg("PW_EVENTS", f"pw.evt.{name}.{job}")
            except NotFoundError:
                return None
            decoded: dict[str, Any] = json.loads(message.data or b"")
            return decoded

        return await self._until(found, f"{name} of {job}")

    async def _dead_letter(self, site: Site) -> None:
        async def found() -> bool:
            bodies = [letter.data or b"" async for letter in messages_of(self._js, "PW_DLQ")]
            return any(site.name.encode() in body for body in bodies)

        await self._until(found, f"a dead letter for {site.name}")

    async def _count(self, stream: str, subject: str) -> int:
        info = await self._js.stream_info(stream, subjects_filter=subject)
        return sum((info.state.subjects or {}).values())

    async def _until(self, look: Callable[[], Awaitable[Any]], what: str) -> Any:
        """What `look` finds; NATS may be slow meanwhile, but nobody kills it here."""
        deadline = time.monotonic() + TIME_LIMIT
        while time.monotonic() < deadline:
            if found := await look():
                return found
            await asyncio.sleep(0.1)
        raise AssertionError(f"not within {TIME_LIMIT:.0f} s: {what}")


async def full_run(stack: RunningStack) -> None:
    """Every story, once. Raises an ExceptionGroup when one of them ends otherwise."""
    async with _stories(stack) as stories:
        await stories.all()


async def short_run(stack: RunningStack) -> None:
    """An agent that looks around and gets its pull request."""
    async with _stories(stack) as stories:
        await stories.exploring()


@asynccontextmanager
async def _stories(stack: RunningStack) -> AsyncIterator[Stories]:
    await stack.ready()
    async with stack.github() as github, stack.nats() as client:
        yield Stories(stack, github, client.jetstream(timeout=10))
        await asyncio.sleep(1.0)  # the exporters' batches
