"""Does this delivery stop an issue's jobs, and which ones? Pure.

A comment stops by what it says, so its author must be allowed to write; that an issue was
closed or deleted, or the comment that had asked, is a fact, whoever brought it about.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from patchwright_ingest.mention import Mention
from patchwright_ingest.trigger import Comment, Ignored, Payload


class Stop(BaseModel):
    """`stop.<repository>-<issue>` in `PW_CLAIMS`, or `stop.<trigger>` for one comment's jobs.

    `at` is GitHub's clock, which has whole seconds; `comment_id` is the comment that said
    stop, if one did. `by` and `cause` are as in `JobCancelled`.
    """

    model_config = ConfigDict(frozen=True)

    by: str
    cause: str
    at: datetime
    comment_id: int = 0

    def covers(self, job_id: str, asked_at: datetime) -> bool:
        """Whether the job was asked for before this. In the same second, comments' ids tell."""
        if asked_at != self.at:
            return asked_at < self.at
        asking = _COMMENT.search(job_id)
        return not (asking and self.comment_id and int(asking[1]) > self.comment_id)

    def after(self, before: Stop | None) -> Stop:
        """The later of the two: it covers what the other one does."""
        return before if before and before.place >= self.place else self

    @property
    def place(self) -> tuple[datetime, float]:
        """In time; a deed covers its whole second, and so comes after its comments."""
        return self.at, self.comment_id or math.inf


_COMMENT = re.compile(r"-c([0-9]+)-[0-9]+$")
"""At the end of a job's id: the comment that asked, and the attempt."""


@dataclass(frozen=True)
class Stopped:
    """Something that stops jobs. `key` names what it is about in `PW_CLAIMS`."""

    key: str
    stop: Stop
    by_word: bool
    """Whether it counts only from somebody with write access."""


def find_stop(event: str, payload: Payload, *, mention: Mention) -> Stopped | Ignored:
    """Decide whether `payload` stops anything."""
    if payload.issue.pull_request is not None:
        return Ignored("no job belongs to a pull request")
    if event == "issue_comment":
        return _from_comment(payload, mention)
    if payload.action == "closed":
        return _whole_issue(payload, "closed", payload.issue.closed_at)
    if payload.action == "deleted":
        return _whole_issue(payload, "issue_deleted", None)
    return Ignored(f"an issue that was {payload.action} stops nothing")


def keys_of(job_id: str) -> tuple[str, str]:
    """Where a stop of this job would be recorded: its issue's, and its trigger's."""
    trigger = job_id.rpartition("-")[0]
    return f"stop.{trigger.rpartition('-')[0]}", f"stop.{trigger}"


def _whole_issue(payload: Payload, cause: str, at: datetime | None) -> Stopped:
    stop = Stop(by=payload.sender.login, cause=cause, at=at or payload.issue.updated_at)
    return Stopped(f"stop.{_issue(payload)}", stop, by_word=False)


def _from_comment(payload: Payload, mention: Mention) -> Stopped | Ignored:
    comment, by = payload.comment, payload.sender
    if comment is None:
        return Ignored("there is no comment")
    if payload.action == "deleted":
        return _from_deleted(payload, comment)
    if payload.action != "created":
        return Ignored("only new comments stop")
    if by.type == "Bot":
        return Ignored("bots stop nothing")
    if not mention.says_stop(comment.body or ""):
        return Ignored("the comment does not tell us to stop")
    stop = Stop(by=by.login, cause="stopped", at=comment.created_at, comment_id=comment.id)
    return Stopped(f"stop.{_issue(payload)}", stop, by_word=True)


def _from_deleted(payload: Payload, comment: Comment) -> Stopped | Ignored:
    """Whatever it says by now: an edit does not change what it had asked for."""
    if comment.user is not None and comment.user.type == "Bot":
        return Ignored("bots ask for nothing that could be stopped")
    # GitHub does not say when. The issue was changed by it, or at least not before it.
    at = max(comment.created_at, payload.issue.updated_at)
    stop = Stop(by=payload.sender.login, cause="comment_deleted", at=at)
    return Stopped(f"stop.{_issue(payload)}-c{comment.id}", stop, by_word=False)


def _issue(payload: Payload) -> str:
    return f"{payload.repository.id}-{payload.issue.number}"
