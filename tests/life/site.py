"""GitHub in memory: comments, branches, pull requests, and a clock of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from patchwright_common.errors import Retry
from patchwright_common.events import JobRequested
from patchwright_publisher.github import Posted
from patchwright_publisher.pull_request import Draft

from .broker import exchange


def _lost() -> Retry:
    return Retry("GitHub did not answer")


@dataclass
class Site:
    """What is visible."""

    ticks: int = 0
    comments: dict[int, tuple[int, str]] = field(default_factory=dict)
    """By id: issue and text."""
    branches: set[str] = field(default_factory=set)
    pulls: dict[str, Posted] = field(default_factory=dict)
    """By head."""

    def now(self) -> datetime:
        """Later each time."""
        self.ticks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.ticks)

    def posted(self, number: int, url: str) -> Posted:
        return Posted(number, url, self.now())


class GitHubForJob:
    """As `patchwright_publisher.github.GitHub`, for one job."""

    def __init__(self, site: Site, job: JobRequested) -> None:
        self._site = site
        self._job = job

    async def comments_with(self, marker: str) -> list[int]:
        return await exchange(
            lambda: sorted(
                number
                for number, (issue, text) in self._site.comments.items()
                if issue == self._job.issue_number and marker in text
            ),
            lost=_lost,
        )

    async def comment(self, text: str) -> Posted:
        def effect() -> Posted:
            number = 1000 + self._site.ticks
            self._site.comments[number] = (self._job.issue_number, text)
            return self._site.posted(number, f"https://x/comments/{number}")

        return await exchange(effect, lost=_lost)

    async def edit(self, comment_id: int, text: str) -> Posted | None:
        def effect() -> Posted | None:
            if comment_id not in self._site.comments:
                return None
            self._site.comments[comment_id] = (self._job.issue_number, text)
            return self._site.posted(comment_id, f"https://x/comments/{comment_id}")

        return await exchange(effect, lost=_lost)

    async def delete(self, comment_id: int) -> None:
        await exchange(lambda: self._site.comments.pop(comment_id, None), lost=_lost)

    async def pull_request(self, head: str) -> Posted | None:
        return await exchange(lambda: self._site.pulls.get(head), lost=_lost)

    async def open(self, draft: Draft) -> Posted:
        def effect() -> Posted:
            assert draft.head in self._site.branches
            if draft.head not in self._site.pulls:
                number = 5000 + len(self._site.pulls)
                self._site.pulls[draft.head] = self._site.posted(number, f"https://x/pull/{number}")
            return self._site.pulls[draft.head]

        return await exchange(effect, lost=_lost)

    async def has_branch(self, name: str) -> bool:
        return await exchange(lambda: name in self._site.branches, lost=_lost)


@dataclass
class Pushing:
    """As `patchwright_publisher.branch.Verified`."""

    site: Site

    async def push(self, branch: str) -> None:
        await exchange(lambda: self.site.branches.add(branch), lost=_lost)


def verified_on(site: Site) -> Any:
    """As `patchwright_publisher.branch.verified`: every change may be pushed."""

    @asynccontextmanager
    async def verified(*_: Any, **__: Any) -> AsyncIterator[Pushing]:
        yield Pushing(site)

    return verified
