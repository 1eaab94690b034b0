"""Does this delivery ask for a job? Pure: payload in, trigger or a reason why not out.

Payloads are parsed leniently, for the few fields that we need: GitHub adds to them
without notice. https://docs.github.com/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from patchwright_common.errors import Permanent
from patchwright_ingest.mention import Mention

LABEL = "patchwright"
"""The label that makes an issue a request."""

Number = Annotated[int, Field(ge=0, lt=2**63)]
"""An id or a number of GitHub's: what fits into a job's id and into a subject."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class User(_Part):
    """`type` is `User`, `Bot` or `Organization`."""

    login: str
    type: str = "User"


class Label(_Part):
    """A label, by name."""

    name: str


class Issue(_Part):
    """An issue, or a pull request's issue side."""

    number: Number
    title: str
    body: str | None = None
    state: str = "open"
    user: User | None = None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    closed_at: AwareDatetime | None = None
    pull_request: dict[str, Any] | None = None


class Comment(_Part):
    """A comment on an issue."""

    id: Number
    body: str | None = None
    user: User | None = None
    created_at: AwareDatetime


class Owned(_Part):
    """A repository. Its name becomes part of the API's paths."""

    id: Number
    full_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")]
    default_branch: str


class Installation(_Part):
    """The App's installation that was told."""

    id: Number


class Payload(_Part):
    """What `issues` and `issue_comment` have in common."""

    action: str
    issue: Issue
    repository: Owned
    sender: User
    installation: Installation
    comment: Comment | None = None
    label: Label | None = None


@dataclass(frozen=True)
class Trigger:
    """Somebody asked. `key` names what asked, the same for every delivery about it.

    `at` is GitHub's clock when it was asked.
    """

    key: str
    payload: Payload
    at: datetime
    request: str = ""


@dataclass(frozen=True)
class Ignored:
    """Nobody asked, and why we think so. `reason` goes to the log and the span."""

    reason: str


def read(body: bytes) -> Payload:
    """The payload of an `issues` or `issue_comment` delivery.

    Raises `Permanent` for one that GitHub would not send: it waits as a dead letter.
    """
    try:
        return Payload.model_validate_json(body)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors()[:3])
        raise Permanent(f"The payload lacks what a request needs: {places}.") from None


def find(
    event: str, payload: Payload, *, mention: Mention, label: str = LABEL
) -> Trigger | Ignored:
    """Decide whether `payload` is a request."""
    if payload.sender.type == "Bot":
        return Ignored("bots ask for nothing")
    if payload.issue.state != "open":
        return Ignored("the issue is closed")
    if payload.issue.pull_request is not None:
        return Ignored("requests on pull requests are not supported yet")
    if event == "issue_comment":
        return _from_comment(payload, mention)
    return _from_issue(payload, mention, label)


def _from_comment(payload: Payload, mention: Mention) -> Trigger | Ignored:
    comment = payload.comment
    if payload.action != "created" or comment is None:
        return Ignored("only new comments ask")
    text = comment.body or ""
    if not mention.occurs_in(text):
        return Ignored("the comment does not mention us")
    if mention.says_stop(text):
        return Ignored("it says stop, which has a consumer of its own")
    key = f"{payload.repository.id}-{payload.issue.number}-c{comment.id}"
    return Trigger(key, payload, comment.created_at, text)


def _from_issue(payload: Payload, mention: Mention, label: str) -> Trigger | Ignored:
    issue = payload.issue
    key = f"{payload.repository.id}-{issue.number}-issue"
    if payload.action == "labeled":
        if payload.label is None or payload.label.name.casefold() != label.casefold():
            return Ignored("another label was set")
        return Trigger(key, payload, issue.updated_at)
    if payload.action == "opened":
        # An issue that is opened with the label is reported as labelled as well.
        if any(mention.occurs_in(text) for text in (issue.title, issue.body or "")):
            return Trigger(key, payload, issue.created_at)
        return Ignored("the new issue does not mention us")
    return Ignored(f"an issue that was {payload.action} asks for nothing")
