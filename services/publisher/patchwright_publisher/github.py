"""The few things that the publisher does on GitHub, each safe to repeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx2 as httpx

from patchwright_common import clock, steps
from patchwright_common.events import JobRequested
from patchwright_github.session import RefusedError, Session
from patchwright_publisher.check_run import CheckRun
from patchwright_publisher.pull_request import Draft

UNPROCESSABLE = 422
FRESH = 5.0
"""Seconds from passing the fence until a write has to be sent. Whoever falls silent keeps its
message for longer than that, so that nobody can have taken over in between."""


@dataclass(frozen=True)
class Posted:
    """Something visible on GitHub; `at` is GitHub's clock."""

    id: int
    url: str
    at: datetime


@dataclass(frozen=True)
class Comment(Posted):
    """With the text that it shows."""

    text: str


OpenSession = Callable[[JobRequested], Awaitable[Session]]
Fence = Callable[[], Awaitable[None]]
"""Raises `Overtaken` when there is nothing left to write."""


async def open_to_all() -> None:
    """The fence of what may be written at any time."""


async def passed(*fences: Fence) -> float:
    """Pass them; by when to write then, a time of `clock.now()`."""
    by = clock.now() + FRESH
    for fence in fences:
        await fence()
    return by


class GitHub:
    """GitHub for one job. `bot` is the login under which the App writes.

    `fence` is passed before whatever adds or changes something: who was paused finds out there.
    """

    def __init__(
        self,
        open_session: OpenSession,
        job: JobRequested,
        bot: str,
        fence: Fence = open_to_all,
    ) -> None:
        self._open = open_session
        self._job = job
        self._bot = bot
        self._fence = fence
        self._path = f"repos/{job.repository.full_name}"

    async def comments_with(self, marker: str) -> list[Comment]:
        """The App's own comments on the issue that hold `marker`, oldest first."""
        session = await self._open(self._job)
        # Two hours of slack for clocks; `since` looks at the last update.
        since = self._job.requested_at.timestamp() - 7200
        stamp = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"{self._path}/issues/{self._job.issue_number}/comments?per_page=100&since={stamp}"
        found = [
            Comment(**vars(_posted(comment)), text=comment["body"])
            async for comment in session.pages(path)
            if (comment.get("user") or {}).get("login") == self._bot
            and marker in (comment.get("body") or "")
        ]
        return sorted(found, key=lambda comment: comment.id)

    async def comment(self, text: str, fence: Fence = open_to_all) -> Posted:
        """Write a new comment on the issue, unless `fence` raises."""
        session, by = await self._writing(fence)
        path = f"{self._path}/issues/{self._job.issue_number}/comments"
        posted = _posted(await session.post(path, {"body": text}, by=by))
        steps.reached("publisher.comment-created")
        return posted

    async def edit(self, comment_id: int, text: str) -> Posted | None:
        """Replace a comment's text; None when somebody deleted the comment."""
        session, by = await self._writing()
        path = f"{self._path}/issues/comments/{comment_id}"
        try:
            posted = _posted(await session.patch(path, {"body": text}, by=by))
        except RefusedError as refused:
            if refused.status == httpx.codes.NOT_FOUND:
                return None
            raise
        steps.reached("publisher.comment-edited")
        return posted

    async def delete(self, comment_id: int) -> None:
        """Delete a comment of ours. No fence: what is double is double behind the result too."""
        session = await self._open(self._job)
        await session.delete(f"{self._path}/issues/comments/{comment_id}")
        steps.reached("publisher.comment-deleted")

    async def pull_request(self, head: str) -> Posted | None:
        """The pull request of a branch, open or not."""
        session = await self._open(self._job)
        owner = self._job.repository.full_name.partition("/")[0]
        query = f"head={quote(f'{owner}:{head}', safe='')}&state=all"
        found = await session.get(f"{self._path}/pulls?{query}")
        # GitHub ignores a filter that it does not understand and lists everything.
        # And a fork's branch may have any name.
        ours = [
            pull
            for pull in found
            if pull["head"]["ref"] == head
            and (pull["head"].get("repo") or {}).get("id") == self._job.repository.id
        ]
        return _posted(ours[0]) if ours else None

    async def open(self, draft: Draft) -> Posted:
        """Open the pull request, or find the one that another publisher has opened meanwhile."""
        session, by = await self._writing()
        body = {
            "title": draft.title,
            "body": draft.body,
            "head": draft.head,
            "base": draft.base,
            "maintainer_can_modify": True,
        }
        try:
            posted = _posted(await session.post(f"{self._path}/pulls", body, by=by))
        except RefusedError as refused:
            if refused.status == UNPROCESSABLE:
                existing = await self.pull_request(draft.head)
                if existing:
                    return existing
            raise
        steps.reached("publisher.pull-request-opened")
        return posted

    async def check(self, run: CheckRun) -> None:
        """Put a check run on its commit, unless the job has one there.

        Looked up by our App's slug and the job's id, because GitHub offers no other key
        (https://docs.github.com/rest/checks/runs#list-check-runs-for-a-git-reference), and
        without the filter it shows the latest of a name alone. The look is behind the fence: a
        check run cannot be deleted, so whoever was paused after it must not write.
        """
        session, by = await self._writing()
        query = f"check_name={quote(run.name)}&filter=all&per_page=100"
        found = await session.get(f"{self._path}/commits/{run.commit}/check-runs?{query}")
        for there in found["check_runs"]:
            app = (there.get("app") or {}).get("slug")
            if there.get("external_id") == run.job_id and f"{app}[bot]" == self._bot:
                return
        await session.post(f"{self._path}/check-runs", run.body(), by=by)
        steps.reached("publisher.check-run-created")

    async def has_branch(self, name: str) -> bool:
        """Whether the branch is there."""
        session = await self._open(self._job)
        try:
            await session.get(f"{self._path}/git/ref/heads/{quote(name)}")
        except RefusedError as refused:
            if refused.status == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    async def _writing(self, further: Fence = open_to_all) -> tuple[Session, float]:
        """And by when to write; who was paused behind the fences does not."""
        session = await self._open(self._job)
        return session, await passed(self._fence, further)


def _posted(answer: dict[str, Any]) -> Posted:
    return Posted(
        id=int(answer["id"]),
        url=answer["html_url"],
        at=datetime.fromisoformat(answer["updated_at"]),
    )
