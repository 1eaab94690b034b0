"""The one comment of a job: found again after any crash, never left double."""

from __future__ import annotations

from typing import Protocol

from pydantic import BaseModel, ConfigDict

from patchwright_common.claims import Claims
from patchwright_publisher.github import Posted


class Comments(Protocol):
    """What is needed of GitHub for it."""

    async def comments_with(self, marker: str) -> list[int]:
        """Ids of our comments with the marker, oldest first."""
        ...

    async def comment(self, text: str) -> Posted:
        """A new comment."""
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


class OneComment:
    """The comment that acknowledges a job and is edited until it shows the result."""

    def __init__(self, comments: Comments, claims: Claims, job_id: str, marker: str) -> None:
        self._comments = comments
        self._claims = claims
        self._key = f"comment.{job_id}"
        self._marker = marker

    async def update(self, text: str) -> None:
        """Edit the comment if it is known; progress is not worth a new one."""
        known = await self._claims.read(self._key, Known)
        if known:
            await self._comments.edit(known.id, text)

    async def write(self, text: str, *, final: bool = False) -> Posted | None:
        """Make the comment show `text`, creating it when there is none.

        None when the comment was there already and the text is not `final`: a late
        acknowledgement must not replace what came after it. A final text also clears
        away a second comment, which two publishers can make at the same moment.
        """
        known = await self._claims.read(self._key, Known)
        if known and not final:
            return None
        found = await self._comments.comments_with(self._marker) if final or not known else []
        if not known and not found:
            return await self._created(text, final=final)
        keep = min([*found, *([known.id] if known else [])])
        posted = await self._comments.edit(keep, text) if final else None
        if final and posted is None:
            posted = await self._comments.comment(text)
            keep = posted.id
        await self._remember(keep, instead=known)
        for other in found:
            if other != keep:
                await self._comments.delete(other)
        return posted

    async def _created(self, text: str, *, final: bool) -> Posted | None:
        posted = await self._comments.comment(text)
        kept = await self._claims.change(
            self._key, Known, lambda before: before or Known(id=posted.id)
        )
        if kept.id == posted.id:
            return posted
        # Another publisher was first: its comment stays, and shows the text if it is final.
        await self._comments.delete(posted.id)
        return await self.write(text, final=final)

    async def _remember(self, comment_id: int, *, instead: Known | None) -> None:
        def step(before: Known | None) -> Known:
            return Known(id=comment_id) if before == instead else before or Known(id=comment_id)

        await self._claims.change(self._key, Known, step)
