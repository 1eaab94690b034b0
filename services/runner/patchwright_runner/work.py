"""One job from `JobReadied` to its result: workspace, sandbox, agent, change."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from patchwright_common import telemetry
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.credentials import TokenRequest, Vault
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import (
    NO_COMMIT,
    AnswerProduced,
    ChangeProduced,
    Event,
    FileChanged,
    JobProgressed,
    JobReadied,
    JobRequested,
    JobStarted,
    Spent,
)
from patchwright_common.flow import (
    ANSWER_PRODUCED,
    CHANGE_PRODUCED,
    JOB_PROGRESSED,
    JOB_STARTED,
    PW_CHANGES,
    PW_CHECKPOINTS,
    Route,
)
from patchwright_common.messaging import Delivery
from patchwright_git.remote import TokenRefusedError
from patchwright_github.address import lies_on
from patchwright_runner.agent.protocol import Agent, AgentResult, Remark, Task, Turn, Usage
from patchwright_runner.change import Author, Change, bundle
from patchwright_runner.history import is_produced, newest
from patchwright_runner.mirror import Mirror
from patchwright_runner.ownership import Ownership
from patchwright_runner.sandbox.protocol import Backend, BoxSpec, Limits, Sandbox

log = logging.getLogger(__name__)

SUMMARY_LIMIT = 60_000
"""Characters of the agent's last words; GitHub shows no more, and events have to stay small."""


@dataclass(frozen=True)
class Workshop:
    """What a job needs besides itself."""

    name: str
    bus: Bus
    claims: Claims
    vault: Vault
    mirror: Mirror
    backend: Backend
    limits: Limits
    make_agent: Callable[[str, Usage], Awaitable[Agent]]
    """Builds the agent for the job of that id, which has used so much before.

    Its key lives no longer than the agent.
    """
    github: str
    """GitHub's pages and repositories, as `https://github.com`: no token goes anywhere else."""
    model: str
    author: Author
    programs: Mapping[str, Path] = field(default_factory=dict)
    """What the agent's boxes have to see; see BoxSpec."""


class Runner:
    """The handler of `JobReadied`."""

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop

    async def on_readied(self, delivery: Delivery) -> None:
        """Claim the job and work on it, unless its result is there."""
        job_id = delivery.read(JobReadied).job_id
        if await self._is_done(job_id):
            log.info("the result is there already")
            return
        job = await self._shop.bus.job(job_id)
        ownership = await Ownership.take(self._shop.claims, job_id, self._shop.name)
        telemetry.note(telemetry.EPOCH, ownership.epoch)
        telemetry.note(telemetry.REPOSITORY, job.repository.full_name)
        attempt = Attempt(self._shop, job, ownership)
        await ownership.during(attempt.run)
        # Acknowledging now would clear the message of whoever has taken over meanwhile.
        await ownership.check()

    async def _is_done(self, job_id: str) -> bool:
        """Decided, or handed on by a runner that died before it could acknowledge."""
        if await self._shop.claims.outcome(job_id) is not None:
            return True
        claim = await self._shop.claims.claim(job_id)
        return claim is not None and await is_produced(self._shop.bus, job_id, claim.epoch)


class Attempt:
    """One epoch of a job. Observes the agent and publishes under the epoch."""

    def __init__(self, shop: Workshop, job: JobRequested, ownership: Ownership) -> None:
        self._shop = shop
        self._job = job
        self._ownership = ownership
        self._began = time.monotonic()
        self._before = Spent()
        self._usage = Usage()

    async def run(self) -> None:
        """Raises `Permanent` for what the user must hear, `Retry` for what time may cure."""
        if self._job.base == NO_COMMIT:
            raise Permanent(
                "The repository has no commit on its default branch to begin with.",
                advice="Push a first commit.",
            )
        self._before = await self._spent_before()
        with telemetry.span("prepare workspace"):
            repository = await self._fetch()
        spec = BoxSpec(
            job_id=self._job.job_id,
            mirror=repository,
            limits=self._shop.limits,
            programs=self._shop.programs,
        )
        backend = self._shop.backend
        with telemetry.span("start sandbox", attributes={telemetry.SANDBOX: backend.name}):
            box = await backend.start(spec)
        async with box:
            with telemetry.span("check out"):
                await box.checkout(self._job.base)
            started = JobStarted(
                job_id=self._job.job_id,
                epoch=self._ownership.epoch,
                runner=self._shop.name,
                sandbox=backend.name,
            )
            await self._emit(JOB_STARTED, started, "started")
            agent = await self._shop.make_agent(self._job.job_id, _usage(self._before))
            result = await agent.work(_task(self._job), box, self)
            await self._publish(box, repository, result)

    async def turn_finished(self, turn: Turn) -> None:
        """Tell the issue; stops the agent when the job is no longer ours.

        A bus that is away does not: nothing final is published without its confirmation.
        """
        self._usage += turn.usage
        doing = "; ".join(call.summary for call in turn.tool_calls) or "wrote its conclusion"
        progressed = JobProgressed(
            job_id=self._job.job_id,
            epoch=self._ownership.epoch,
            turn=turn.number,
            doing=doing[:500],
            spent=self._spent(turn.number, self._usage),
        )
        try:
            await self._emit(JOB_PROGRESSED, progressed, f"turn-{turn.number}")
        except Retry as error:
            log.warning("turn %d was not reported: %s", turn.number, error.reason)

    async def _spent_before(self) -> Spent:
        """What earlier attempts used: the budget is the job's, however often it begins again."""
        stored = await newest(self._shop.bus, JOB_PROGRESSED, self._job.job_id)
        return JobProgressed.model_validate_json(stored.data or b"").spent if stored else Spent()

    async def _fetch(self) -> Path:
        repository = self._job.repository
        if not lies_on(repository.clone_url, self._shop.github):
            raise Permanent(
                "The repository lies on another host than the GitHub that Patchwright works for.",
                advice="Operators: PATCHWRIGHT_GITHUB_API_URL says which one that is.",
            )
        request = TokenRequest(
            installation_id=repository.installation_id,
            repository_id=repository.id,
            job_id=self._job.job_id,
        )
        token = await self._shop.vault.token(request)
        try:
            return await self._fetch_with(token)
        except TokenRefusedError:
            another = await self._shop.vault.token(request, refused=token)
            return await self._fetch_with(another)

    async def _fetch_with(self, token: SecretStr) -> Path:
        repository = self._job.repository
        return await self._shop.mirror.fetch(
            repository.id, repository.clone_url, token.get_secret_value(), sha=self._job.base
        )

    async def _publish(self, box: Sandbox, repository: Path, result: AgentResult) -> None:
        transcript = json.dumps(list(result.transcript)).encode()
        summary = _storable(result.summary)
        common: dict[str, Any] = {
            "job_id": self._job.job_id,
            "epoch": self._ownership.epoch,
            "model": self._shop.model,
            "spent": self._spent(result.turns, result.usage),
            "transcript_sha256": await self._shop.bus.put(PW_CHECKPOINTS, transcript),
        }
        change = await self._collect(box, repository)
        if change is None:
            answer = AnswerProduced(**common, answer=summary)
            await self._emit(ANSWER_PRODUCED, answer, "answer")
            return
        produced = ChangeProduced(
            **common,
            bundle_sha256=await self._shop.bus.put(PW_CHANGES, change.data),
            bundle_bytes=len(change.data),
            commit=change.commit,
            base=self._job.base,
            files=tuple(
                FileChanged(
                    path=file.path,
                    status=file.status,
                    additions=file.additions,
                    deletions=file.deletions,
                )
                for file in change.files
            ),
            summary=summary,
        )
        await self._emit(CHANGE_PRODUCED, produced, "change")

    async def _collect(self, box: Sandbox, repository: Path) -> Change | None:
        """The tree's difference from the base as one commit, the same however often it is made."""
        with telemetry.span("collect change"):
            return await bundle(
                box.collect(self._job.base),
                mirror=repository,
                base=self._job.base,
                message=_message(self._job),
                author=self._shop.author,
                date=self._job.requested_at,
            )

    async def _emit(self, route: Route, event: Event, step: str) -> None:
        await self._ownership.check()
        await self._shop.bus.emit(route, event, step=f"{self._ownership.epoch}:{step}")

    def _spent(self, turns: int, usage: Usage) -> Spent:
        """The whole job's, earlier attempts included."""
        before, cached = self._before, usage.cache_read_tokens + usage.cache_write_tokens
        return Spent(
            turns=before.turns + turns,
            input_tokens=before.input_tokens + usage.input_tokens + cached,
            output_tokens=before.output_tokens + usage.output_tokens,
            dollars=before.dollars + usage.dollars,
            seconds=before.seconds + time.monotonic() - self._began,
        )


def _usage(spent: Spent) -> Usage:
    return Usage(spent.input_tokens, spent.output_tokens, dollars=spent.dollars)


def _storable(text: str) -> str:
    """A model can write half a surrogate pair, which no event can hold."""
    return text[:SUMMARY_LIMIT].encode(errors="replace").decode()


def _task(job: JobRequested) -> Task:
    return Task(
        repository=job.repository.full_name,
        issue_number=job.issue_number,
        title=job.title,
        body=job.body,
        conversation=tuple(Remark(r.author, r.text) for r in job.conversation),
        request=job.request,
    )


def _message(job: JobRequested) -> str:
    """The commit's message: what a person wrote, and where to find the rest."""
    title = " ".join(job.title.split())[:72] or f"Resolve issue {job.issue_number}"
    return f"{title}\n\nWritten by Patchwright for issue #{job.issue_number}.\n"
