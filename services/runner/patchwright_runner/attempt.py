"""One epoch of a job, from its base commit to the event that says what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from patchwright_common import steps, telemetry
from patchwright_common.errors import Permanent
from patchwright_common.events import (
    NO_COMMIT,
    AnswerProduced,
    ChangeProduced,
    FileChanged,
    JobRequested,
    JobStarted,
)
from patchwright_common.flow import (
    ANSWER_PRODUCED,
    CHANGE_PRODUCED,
    JOB_STARTED,
    PW_CHANGES,
    PW_CHECKPOINTS,
)
from patchwright_runner.agent.protocol import Remark, Task
from patchwright_runner.agent_work import AgentWork, Done
from patchwright_runner.change import Change, bundle
from patchwright_runner.egress import Ledger
from patchwright_runner.guidance import guidance
from patchwright_runner.lfs import refuse_changed
from patchwright_runner.ownership import Ownership
from patchwright_runner.repository_config import repository_config
from patchwright_runner.source import mirrored
from patchwright_runner.telling import Teller
from patchwright_runner.ways_out import WaysOut
from patchwright_runner.workshop import Workshop
from patchwright_runner.workspace import Workspace

SUMMARY_LIMIT = 60_000
"""Characters of the agent's last words; GitHub shows no more, and events have to stay small."""


class Attempt:
    """Has a workspace made, lets the agent work in it, and publishes."""

    def __init__(self, shop: Workshop, job: JobRequested, ownership: Ownership) -> None:
        self._shop = shop
        self._job = job
        self._teller = Teller(shop.bus, job, ownership)

    async def run(self) -> None:
        """Raises `Permanent` for what the user must hear, `Retry` for what time may cure."""
        if self._job.base == NO_COMMIT:
            raise Permanent(
                "The repository has no commit on its default branch to begin with.",
                advice="Push a first commit.",
            )
        await self._teller.begin()
        with telemetry.span("prepare workspace"):
            mirror = await mirrored(self._shop, self._job)
        config = await repository_config(mirror, self._job.base)
        workspace = await Workspace.planned(self._shop, self._job, config, mirror)
        async with Ledger(self._teller.report) as ledger, workspace.box() as box:
            await self._teller.emit(JOB_STARTED, self._started(), "started")
            steps.reached("runner.start-told")
            ways = WaysOut(self._shop.permission, ledger)
            large = await workspace.furnish(box, ways)
            workspace.prepare_another()
            work = AgentWork(self._shop, self._teller, config, box=box, ways=ways)
            done = await work.do(await self._task(mirror))
        refuse_changed(done.entries, large)
        await self._publish(mirror, self._shop.agents.model(config), done)

    def _started(self) -> JobStarted:
        return JobStarted(
            job_id=self._job.job_id,
            epoch=self._teller.epoch,
            runner=self._shop.name,
            sandbox=self._shop.backend.name,
        )

    async def _task(self, mirror: Path) -> Task:
        job = self._job
        task = Task(
            repository=job.repository.full_name,
            issue_number=job.issue_number,
            title=job.title,
            body=job.body,
            conversation=tuple(Remark(r.author, r.text) for r in job.conversation),
            request=job.request,
            guidance=await guidance(mirror, job.base),
        )
        return await self._shop.images.illustrate(task)

    async def _publish(self, mirror: Path, model: str, done: Done) -> None:
        transcript = json.dumps(list(done.result.transcript)).encode()
        summary = _storable(done.result.summary)
        common: dict[str, Any] = {
            "job_id": self._job.job_id,
            "epoch": self._teller.epoch,
            "model": model,
            "spent": self._teller.spent,
            "transcript_sha256": await self._shop.bus.put(PW_CHECKPOINTS, transcript),
        }
        steps.reached("runner.transcript-stored")
        change = await self._change(mirror, done)
        if change is None:
            answer = AnswerProduced(**common, answer=summary)
            await self._teller.emit(ANSWER_PRODUCED, answer, "answer")
            steps.reached("runner.answer-produced")
            return
        bundle_sha256 = await self._shop.bus.put(PW_CHANGES, change.data)
        steps.reached("runner.change-stored")
        produced = ChangeProduced(
            **common,
            bundle_sha256=bundle_sha256,
            bundle_bytes=len(change.data),
            commit=change.commit,
            base=self._job.base,
            files=_files(change),
            summary=summary,
            verification=done.verification,
        )
        await self._teller.emit(CHANGE_PRODUCED, produced, "change")
        steps.reached("runner.change-produced")

    async def _change(self, mirror: Path, done: Done) -> Change | None:
        """The tree's difference from the base as one commit, the same however often it is made."""
        with telemetry.span("make commit"):
            return await bundle(
                done.entries,
                mirror=mirror,
                base=self._job.base,
                message=_message(self._job),
                author=self._shop.author,
                date=self._job.requested_at,
            )


def _files(change: Change) -> tuple[FileChanged, ...]:
    return tuple(
        FileChanged(
            path=file.path,
            status=file.status,
            additions=file.additions,
            deletions=file.deletions,
        )
        for file in change.files
    )


def _storable(text: str) -> str:
    """A model can write half a surrogate pair, which no event can hold."""
    return text[:SUMMARY_LIMIT].encode(errors="replace").decode()


def _message(job: JobRequested) -> str:
    """The commit's message: what a person wrote, and where to find the rest."""
    title = " ".join(job.title.split())[:72] or f"Resolve issue {job.issue_number}"
    return f"{title}\n\nWritten by Patchwright for issue #{job.issue_number}.\n"
