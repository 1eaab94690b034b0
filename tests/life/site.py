"""GitHub in memory: comments, branches, pull requests, and a clock of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from patchwright_common.errors import Retry
from patchwright_common.events import ChangeProduced, JobRequested
from patchwright_publisher.check_run import CheckRun
from patchwright_publisher.github import Comment, Fence, Posted
from patchwright_publisher.pull_request import Draft

from .fate import Loud, exchange


def _lost() -> Retry:
    return Retry("GitHub did not answer")


@dataclass
class Site:
    """What is visible, and what ever was."""

    ticks: int = 0
    comments: dict[int, tuple[int, Comment]] = field(default_factory=dict)
    """By id, with the issue."""
    branches: dict[str, str] = field(default_factory=dict)
    """By name: what the agent said of the change."""
    pulls: dict[str, Posted] = field(default_factory=dict)
    """By head."""
    checks: dict[str, str] = field(default_factory=dict)
    """By the job's id: the commit."""
    written: list[str] = field(default_factory=list)
    """Every text that a comment ever had."""

    def now(self) -> datetime:
        """Later each time."""
        self.ticks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.ticks)

    def posted(self, number: int, url: str) -> Posted:
        return Posted(number, url, self.now())

    def write(self, issue: int, number: int, text: str) -> Posted:
        self.written.append(text)
        comment = Comment(number, f"https://x/comments/{number}", self.now(), text)
        self.comments[number] = (issue, comment)
        return comment


class GitHubForJob(Loud):
    """As `patchwright_publisher.github.GitHub`, for one job."""

    def __init__(self, site: Site, job: JobRequested, fence: Fence) -> None:
        self._site = site
        self._job = job
        self._fence = fence

    async def comments_with(self, marker: str) -> list[Comment]:
        def effect() -> list[Comment]:
            on_issue = [c for issue, c in self._site.comments.values() if issue == self._issue]
            ours = [comment for comment in on_issue if marker in comment.text]
            return sorted(ours, key=lambda comment: comment.id)

        return await exchange("read", effect, lost=_lost)

    async def comment(self, text: str, fence: Fence) -> Posted:
        def effect() -> Posted:
            return self._site.write(self._issue, 1000 + self._site.ticks, text)

        await self._fence()
        await fence()
        return await exchange("write comment", effect, lost=_lost)

    async def edit(self, comment_id: int, text: str) -> Posted | None:
        def effect() -> Posted | None:
            if comment_id not in self._site.comments:
                return None
            return self._site.write(self._issue, comment_id, text)

        await self._fence()
        return await exchange("write edit", effect, lost=_lost)

    async def delete(self, comment_id: int) -> None:
        def effect() -> None:
            self._site.comments.pop(comment_id, None)

        await exchange("write delete", effect, lost=_lost)

    async def pull_request(self, head: str) -> Posted | None:
        return await exchange("read", lambda: self._site.pulls.get(head), lost=_lost)

    async def open(self, draft: Draft) -> Posted:
        def effect() -> Posted:
            assert draft.head in self._site.branches
            if draft.head not in self._site.pulls:
                number = 5000 + len(self._site.pulls)
                self._site.pulls[draft.head] = self._site.posted(number, f"https://x/pull/{number}")
            return self._site.pulls[draft.head]

        await self._fence()
        return await exchange("write pull request", effect, lost=_lost)

    async def has_branch(self, name: str) -> bool:
        return await exchange("read", lambda: name in self._site.branches, lost=_lost)

    async def check(self, run: CheckRun) -> None:
        def effect() -> None:
            self._site.checks[run.job_id] = run.commit

        await self._fence()
        await exchange("write check", effect, lost=_lost)

    @property
    def _issue(self) -> int:
        return self._job.issue_number


class Pushing(Loud):
    """As `patchwright_publisher.branch.Verified`."""

    def __init__(self, site: Site, event: ChangeProduced) -> None:
        self._site = site
        self._event = event

    async def push(self, branch: str, *, by: float) -> None:
        def effect() -> None:
            self._site.branches[branch] = self._event.summary

        await exchange("write branch", effect, lost=_lost)


def verified_on(site: Site) -> Any:
    """As `patchwright_publisher.branch.verified`: every change may be pushed."""

    @asynccontextmanager
    async def verified(_job: Any, event: ChangeProduced, *_: Any, **__: Any) -> AsyncIterator[Any]:
        yield Pushing(site, event)

    return verified
