"""The one comment of a job: found again after any crash, never left double."""

from __future__ import annotations

from typing import Protocol

from pydantic import BaseModel, ConfigDict

from patchwright_common import steps
from patchwright_common.claims import Claims
from patchwright_publisher.github import Comment, Fence, Posted


class Comments(Protocol):
    """What is needed of GitHub for it."""

    async def comments_with(self, marker: str) -> list[Comment]:
        """Our comments with the marker, oldest first."""
        ...

    async def comment(self, text: str, fence: Fence) -> Posted:
        """A new comment, unless `fence` raises."""
        ...

    async def edit(self, comment_id: int, text: str) -> Posted | None:
        """None when the comment is gone."""
        ...

    async def delete(self, comment_id: int) -> None:
        """No error when the comment is gone."""
        ...


class Known(BaseModel):
    """`comment.<job_id>` in `PW_CLAIMS`: the comment's id, so that nobody has to search."""

    model_config = ConfigDict(frozen=True)

    id: int


class _OtherKnownError(Exception):
    """Another publisher's comment has become the job's since we looked."""


class OneComment:
    """The comment that acknowledges a job and is edited until it shows the result."""

    def __init__(self, comments: Comments, claims: Claims, job_id: str, marker: str) -> None:
        self._comments = comments
        self._claims = claims
        self._key = f"comment.{job_id}"
        self._marker = marker

    async def update(self, text: str) -> Posted | None:
        """Edit the comment if it is known; progress is not worth a new one."""
        known = await self._known()
        return await self._comments.edit(known.id, text) if known else None

    async def write(self, text: str) -> Posted | None:
        """Create the comment. None when it was there: what it shows is never older than this."""
        if await self._known():
            return None
        found = await self._comments.comments_with(self._marker)
        if not found:
            return await self._created(text, instead=None)
        await self._delete_all_but(await self._keep(found[0].id, instead=None), found)
        return None

    async def finish(self, text: str) -> Posted:
        """Make the comment show `text`, and be the only one. Writes nothing where that is so.

        A second one comes from two publishers at the same moment, or from one that was
        killed between writing a comment and noting it down.
        """
        known = await self._known()
        found = await self._comments.comments_with(self._marker)
        there = {comment.id: comment for comment in found}
        # The known one first: nobody else deletes that.
        for candidate in dict.fromkeys([*([known.id] if known else []), *sorted(there)]):
            shown = there.get(candidate)
            is_right = shown is not None and shown.text == text
            posted = shown if is_right else await self._comments.edit(candidate, text)
            if posted is None:
                continue
            if await self._keep(posted.id, instead=known) != posted.id:
                return await self.finish(text)
            await self._delete_all_but(posted.id, found)
            return posted
        created = await self._created(text, instead=known)
        if created is None:
            return await self.finish(text)
        # Another may have been written since we looked, by somebody who did not live to note it.
        await self.tidy()
        return created

    async def tidy(self) -> None:
        """Delete what stands beside the job's comment."""
        known = await self._known()
        if known is not None:
            found = await self._comments.comments_with(self._marker)
            await self._delete_all_but(known.id, found)

    async def _delete_all_but(self, kept: int, found: list[Comment]) -> None:
        for other in found:
            if other.id != kept:
                await self._comments.delete(other.id)

    async def _created(self, text: str, *, instead: Known | None) -> Posted | None:
        async def check() -> None:
            if await self._known() != instead:
                raise _OtherKnownError

        try:
            posted = await self._comments.comment(text, check)
        except _OtherKnownError:
            return None
        if await self._keep(posted.id, instead=instead) == posted.id:
            return posted
        # Another publisher was first: its comment stays.
        await self._comments.delete(posted.id)
        return None

    async def _keep(self, comment_id: int, *, instead: Known | None) -> int:
        """Note down which comment is the job's, unless somebody did meanwhile; which one it is."""

        def step(before: Known | None) -> Known:
            return before if before and before != instead else Known(id=comment_id)

        kept = await self._claims.change(self._key, Known, step)
        steps.reached("publisher.comment-noted")
        return kept.id

    async def _known(self) -> Known | None:
        return await self._claims.read(self._key, Known)
