"""Makes a job's one result visible on GitHub. Every step may be repeated by anybody.

The first final event that reaches `PW_CLAIMS` decides (`Claims.decide`); whoever
comes second completes the first one's result instead of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

import httpx2 as httpx
from pydantic import SecretStr, TypeAdapter

from patchwright_common import steps, telemetry
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims, Kind, Outcome
from patchwright_common.credentials import TokenRequest, Vault
from patchwright_common.errors import NotInstalled, Overtaken, Permanent, Retry
from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobRequested,
)
from patchwright_common.flow import JOB_FINISHED, PW_CHANGES, PW_EVENTS
from patchwright_git.remote import TokenRefusedError
from patchwright_github.address import lies_on
from patchwright_github.session import RefusedError
from patchwright_publisher.branch import BUNDLE_BYTES, Verified, verified
from patchwright_publisher.comment import OneComment
from patchwright_publisher.github import (
    Fence,
    GitHub,
    OpenSession,
    Posted,
    open_to_all,
    passed,
)
from patchwright_publisher.pull_request import Texts, branch_of, marker_of

log = logging.getLogger(__name__)

GONE = (httpx.codes.NOT_FOUND, httpx.codes.GONE)
"""GitHub's answers for an issue that was deleted, or issues that were switched off."""
DOUBLES = timedelta(hours=1)
"""After a result's report, for which whoever was killed may have left a second comment."""
_FINAL: TypeAdapter[ChangeProduced | AnswerProduced | JobFailed | JobCancelled] = TypeAdapter(
    ChangeProduced | AnswerProduced | JobFailed | JobCancelled
)


@dataclass(frozen=True)
class Shown:
    """The result as it is visible: which kind it became, and where."""

    kind: Kind
    posted: Posted


class Results:
    """Decides, completes and reports."""

    def __init__(
        self,
        bus: Bus,
        claims: Claims,
        vault: Vault,
        texts: Texts,
        *,
        open_session: OpenSession,
        bot: str,
        github: str,
    ) -> None:
        """`bot` is the login under which the App writes, `github` the origin of its pages."""
        self._bus = bus
        self._claims = claims
        self._vault = vault
        self._texts = texts
        self._open_session = open_session
        self._bot = bot
        self._origin = github
        self._checking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # --- the four final events --------------------------------------------------------

    async def change(self, event: ChangeProduced, sequence: int) -> None:
        """A pull request, if the change may be pushed and nothing was decided before."""
        proposed = Outcome(kind="pull_request", sequence=sequence)
        decided = await self._claims.outcome(event.job_id)
        if decided is not None:
            await self.finish(event.job_id, decided)
        elif not await self._dropped(event.job_id, event.epoch):
            # Checked before it is decided: a change that may not be pushed ends as a failure.
            job = await self._bus.job(event.job_id)
            async with self._verified(job, event) as change:
                # Checking takes a while, in which somebody may have stopped the job.
                if not await self._late(event.job_id, event.epoch):
                    await self._settle(event.job_id, proposed, change)

    async def answer(self, event: AnswerProduced, sequence: int) -> None:
        """The agent's answer, if nothing was decided before."""
        if not await self._late(event.job_id, event.epoch):
            await self._settle(event.job_id, Outcome(kind="answer", sequence=sequence))

    async def failure(self, event: JobFailed, sequence: int) -> None:
        """A failure, if nothing was decided before or what was decided cannot be completed."""
        if await self._late(event.job_id, event.epoch):
            return
        failed = Outcome(kind="failure", sequence=sequence)
        if event.sequence is not None:
            await self._claims.replace(event.job_id, event.sequence, failed)
            steps.reached("publisher.outcome-replaced")
        await self._settle(event.job_id, failed)

    async def cancelled(self, event: JobCancelled, sequence: int) -> None:
        """That somebody stopped it, if nothing was decided before.

        Nothing was pushed then: that happens only after a change was decided for.
        """
        await self._settle(event.job_id, Outcome(kind="cancelled", sequence=sequence))

    async def show_again(self, job_id: str, edited_at: datetime | None = None) -> None:
        """Write a result that is visible already once more, over what was written since.

        `edited_at` is when, by GitHub's clock, if that is known. Raises `Retry` where the result
        is decided and not reported: it may be visible, and somebody has to look after the report.
        """
        outcome = await self._claims.outcome(job_id)
        if outcome is None:
            return
        if outcome.reported_at is None:
            raise Retry("the result is about to be visible")
        if edited_at is None or edited_at >= outcome.reported_at:
            await self._show(await self._bus.job(job_id), outcome, None)

    async def finish(self, job_id: str, outcome: Outcome, change: Verified | None = None) -> None:
        """Complete a decided result and say so; harmless when that has happened already.

        `change` is what the outcome decides for, if it is at hand and verified.
        """
        job = await self._bus.job(job_id)
        before = outcome.reported_at
        if before is None:
            with telemetry.span("show result", attributes={telemetry.RESULT: outcome.kind}):
                shown = await self._show(job, outcome, change)
            outcome = await self._claims.report(
                job_id, kind=shown.kind, url=shown.posted.url, at=shown.posted.at
            )
            steps.reached("publisher.result-reported")
        finished = JobFinished(job_id=job_id, result=outcome.kind, url=outcome.url)
        await self._bus.emit(JOB_FINISHED, finished, step="finished")
        steps.reached("publisher.job-finished")
        log.info("%s: %s", outcome.kind, outcome.url)
        if before is not None and datetime.now(UTC) - before < DOUBLES:
            await self._tidy(job)

    # --- how ---------------------------------------------------------------------------

    async def _late(self, job_id: str, epoch: int | None) -> bool:
        """Whether to drop a result: the job was stopped or taken over before it had any.

        What was decided is completed by everybody: the runner that took over stops at it.
        """
        return await self._claims.outcome(job_id) is None and await self._dropped(job_id, epoch)

    async def _dropped(self, job_id: str, epoch: int | None) -> bool:
        if await self._claims.cancelled(job_id) is not None:
            # JobCancelled is stored or about to be, and never given up.
            log.info("the job was stopped; its result is dropped")
            return True
        return epoch is not None and await self._overtaken(job_id, epoch)

    async def _overtaken(self, job_id: str, epoch: int) -> bool:
        claim = await self._claims.claim(job_id)
        if claim is not None and claim.epoch == epoch:
            return False
        log.info("epoch %d of the job was overtaken; its result is dropped", epoch)
        return True

    async def _settle(self, job_id: str, proposed: Outcome, change: Verified | None = None) -> None:
        decided = await self._claims.decide(job_id, proposed)
        steps.reached("publisher.outcome-decided")
        own = decided.sequence == proposed.sequence
        await self.finish(job_id, decided, change if own else None)

    @asynccontextmanager
    async def _verified(self, job: JobRequested, event: ChangeProduced) -> AsyncIterator[Verified]:
        bundle = await self._bus.get(PW_CHANGES, event.bundle_sha256, limit=BUNDLE_BYTES)
        token = await self._token(job)
        try:
            async with verified(job, event, bundle, token=token) as change:
                yield change
        except TokenRefusedError:
            # The next attempt gets another one.
            await self._vault.token(token_request(job), refused=token)
            raise

    async def _show(self, job: JobRequested, outcome: Outcome, change: Verified | None) -> Shown:
        body = await self._bus.stored(PW_EVENTS, outcome.sequence)
        if body is None:
            raise Permanent("The event that decided the result is no longer stored.")
        # Not by the outcome's kind: a failure can have turned out to be a pull request.
        event = _FINAL.validate_json(body)
        fence = self._fence(job.job_id, outcome)
        if isinstance(event, ChangeProduced):
            return await self._show_change(job, event, change, fence)
        if isinstance(event, AnswerProduced):
            text = self._texts.answer(event)
            return Shown("answer", await self._final_comment(job, text, fence))
        if isinstance(event, JobCancelled):
            return await self._show_cancelled(job, event, fence)
        return await self._show_failure(job, event, fence)

    def _fence(self, job_id: str, outcome: Outcome) -> Fence:
        """Who was paused may wake up behind the result: it was reported, or is another now.

        To write again what is reported already is meant, and passes.
        """

        async def check() -> None:
            now = await self._claims.outcome(job_id)
            if now is None or now.sequence != outcome.sequence:
                raise Overtaken(f"another event decides the result of {job_id}")
            if now.reported_at is not None and outcome.reported_at is None:
                raise Overtaken(f"the result of {job_id} is visible already")

        return check

    def undecided(self, job_id: str) -> Fence:
        """The fence of what only tells of the way there."""

        async def check() -> None:
            if await self._claims.outcome(job_id) is not None:
                raise Overtaken(f"the result of {job_id} is decided")

        return check

    async def _show_change(
        self, job: JobRequested, event: ChangeProduced, change: Verified | None, fence: Fence
    ) -> Shown:
        github = self._github(job, fence)
        draft = self._texts.draft(job, event, trace_id=telemetry.trace_id())
        existing = await github.pull_request(draft.head)
        if existing is None:
            if change is not None:
                await self._push(change, draft.head, fence)
            else:
                async with self._verified(job, event) as again:
                    await self._push(again, draft.head, fence)
            with telemetry.span("open pull request") as span:
                existing = await github.open(draft)
                span.set_attribute(telemetry.CHANGE_URL, existing.url)
        text = self._texts.opened(event, existing.url)
        shown = await self._point_to(existing, job, text, fence)
        await self._check(github, job, event)
        return shown

    async def _push(self, change: Verified, branch: str, fence: Fence) -> None:
        await change.push(branch, by=await passed(fence))
        steps.reached("publisher.branch-pushed")

    async def _check(self, github: GitHub, job: JobRequested, event: ChangeProduced) -> None:
        """The pull request is the result, even where the App may not write checks."""
        run = self._texts.check_run(job, event, trace_id=telemetry.trace_id())
        lock = self._checking.setdefault(job.job_id, asyncio.Lock())
        try:
            # It cannot be deleted, so an event that came twice must not make two.
            async with lock:
                await github.check(run)
        except RefusedError as refused:
            log.warning("no check run on the pull request: %s", refused.reason)

    async def _point_to(self, opened: Posted, job: JobRequested, text: str, fence: Fence) -> Shown:
        """The pull request is the result, even where the issue takes no comment any more."""
        at = opened.at
        try:
            at = (await self._final_comment(job, text, fence)).at
        except RefusedError as refused:
            log.warning("no comment beside the pull request: %s", refused.reason)
        return Shown("pull_request", Posted(opened.id, opened.url, at))

    async def _show_cancelled(self, job: JobRequested, event: JobCancelled, fence: Fence) -> Shown:
        try:
            posted = await self._final_comment(job, self._texts.cancelled(event), fence)
        except (RefusedError, NotInstalled) as refused:
            return _unseen("cancelled", refused, f"{event.cause} by {event.by}")
        return Shown("cancelled", posted)

    async def _show_failure(self, job: JobRequested, event: JobFailed, fence: Fence) -> Shown:
        try:
            return await self._show_what_is_left(job, event, fence)
        except (RefusedError, NotInstalled) as refused:
            return _unseen("failure", refused, event.reason)

    async def _show_what_is_left(self, job: JobRequested, event: JobFailed, fence: Fence) -> Shown:
        github = self._github(job, fence)
        branch = branch_of(job)
        opened = await github.pull_request(branch)
        if opened:
            # The attempt that gave up had opened it after all: two results would be one too many.
            text = f"### ✅ {opened.url}\nIt was opened, though a later step had trouble."
            return await self._point_to(opened, job, text, fence)
        waiting = branch if await github.has_branch(branch) else ""
        text = self._texts.failure(event, branch=waiting)
        return Shown("failure", await self._final_comment(job, text, fence))

    async def _final_comment(self, job: JobRequested, text: str, fence: Fence) -> Posted:
        comment, sign = await self.comment(job, fence)
        return await comment.finish(sign(text))

    async def _tidy(self, job: JobRequested) -> None:
        """Whoever was killed between writing a comment and noting it down left a second one."""
        with contextlib.suppress(Permanent):
            comment, _ = await self.comment(job)
            await comment.tidy()

    async def comment(
        self, job: JobRequested, fence: Fence = open_to_all
    ) -> tuple[OneComment, Callable[[str], str]]:
        """The job's comment, and what signs a text for it."""
        marker = marker_of(job.job_id, await self._vault.mark(job.job_id))
        trace_id = telemetry.trace_id()

        def sign(text: str) -> str:
            return self._texts.signed(text, job_id=job.job_id, trace_id=trace_id, marker=marker)

        return OneComment(self._github(job, fence), self._claims, job.job_id, marker), sign

    def _github(self, job: JobRequested, fence: Fence) -> GitHub:
        return GitHub(self._open_session, job, self._bot, fence)

    async def _token(self, job: JobRequested) -> SecretStr:
        # It can write: the record's address is checked before there is anything to send there.
        if not lies_on(job.repository.clone_url, self._origin):
            raise Permanent("The repository's address does not belong to this GitHub.")
        return await self._vault.token(token_request(job))


def token_request(job: JobRequested) -> TokenRequest:
    """Which token a job's writes need."""
    return TokenRequest(
        installation_id=job.repository.installation_id,
        repository_id=job.repository.id,
        job_id=job.job_id,
    )


def _archived(refused: RefusedError) -> bool:
    return refused.status == httpx.codes.FORBIDDEN and "archived" in refused.reason


def _unseen(kind: Kind, refused: RefusedError | NotInstalled, what: str) -> Shown:
    """A result that nobody is left to be told: neither the issue's queue nor others must wait.

    An App that is installed anew has another installation, which the job's record does not name.
    """
    if isinstance(refused, RefusedError) and not (refused.status in GONE or _archived(refused)):
        raise refused
    log.error("the issue is out of reach, so nobody saw: %s", what)
    return Shown(kind, Posted(0, "", datetime.now(UTC)))
