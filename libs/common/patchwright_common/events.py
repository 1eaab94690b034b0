"""The payloads of `pw.evt.>`: facts in the past tense, each about one job.

Schemas change by addition only: unknown fields are ignored, new ones carry a
default. A break gets a new subject. No payload ever holds a credential.
Times are ISO 8601 in UTC; money is in US dollars; sizes are in bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
"""A git object id (SHA-1 or SHA-256)."""
JOB_ID = r"^[A-Za-z0-9-]{1,64}$"
NO_COMMIT = "0" * 40
"""The base of a job in a repository without a commit, so that its user can be told."""
JobId = Annotated[str, Field(pattern=JOB_ID)]
"""`<repository>-<issue>-<trigger>-<attempt>`; one token of a NATS subject."""


class Event(BaseModel):
    """What every event carries: the id that tells the story."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    job_id: JobId


class Repository(BaseModel):
    """Where the job works. The name is for people and URLs, the id is the identity."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    id: int
    full_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")]
    clone_url: str
    default_branch: str
    installation_id: int


class Remark(BaseModel):
    """A comment of the issue's thread, as it stood when the job was requested."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    author: str
    text: str


class JobRequested(Event):
    """Triage's record of the job: what everyone behind it believes, and nothing else.

    `request` is the comment that asked, or empty when a label did.
    """

    repository: Repository
    issue_number: int
    title: str
    body: str
    sender: str
    request: str = ""
    conversation: tuple[Remark, ...] = ()
    base: Sha
    attempt: int
    delivery_id: str
    requested_at: datetime
    refused: str = ""
    """Why it cannot be tried at all, for a maintainer: the job ends as a failure at once."""
    asked_at: datetime | None = None
    """GitHub's clock when somebody asked; a stop that is younger ends the job."""


class JobReadied(Event):
    """The job is at the head of its issue's queue: a runner may take it."""


class JobStarted(Event):
    """A runner claimed the job as `epoch` and has a sandbox."""

    epoch: int
    runner: str
    sandbox: str


class Spent(BaseModel):
    """What the agent used so far; `dollars` is an estimate from list prices."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0
    seconds: float = 0.0


class JobProgressed(Event):
    """One model turn and its tool calls are done."""

    epoch: int
    turn: int
    doing: str
    spent: Spent


class FileChanged(BaseModel):
    """A line of the diffstat; `status` is git's letter (A, M, D, T)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: str
    status: str
    additions: int = 0
    deletions: int = 0


class Verification(BaseModel):
    """How the repository's own verification ended in the sandbox, on the change as it is.

    `failed` is the command that did not succeed, or empty; `rounds` is how often the agent
    was sent back to mend it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    commands: tuple[str, ...]
    failed: str = ""
    ending: str = ""
    rounds: int = 0


class ChangeProduced(Event):
    """The agent changed the tree: a git bundle waits in `PW_CHANGES` under its digest."""

    epoch: int
    bundle_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bundle_bytes: int
    commit: Sha
    base: Sha
    files: tuple[FileChanged, ...]
    summary: str
    model: str
    spent: Spent
    transcript_sha256: str = ""
    """The whole conversation, in `PW_CHECKPOINTS`."""
    verification: Verification | None = None
    """None where the repository asks for none."""


class AnswerProduced(Event):
    """The agent changed nothing; its last words are the result."""

    epoch: int
    answer: str
    model: str
    spent: Spent
    transcript_sha256: str = ""


class JobFailed(Event):
    """The job cannot end well. `reason` and `advice` are read by a maintainer on GitHub."""

    stage: str
    reason: str
    advice: str = ""
    trace_id: str = ""
    epoch: int | None = None
    """None: declared by the delivery rules, which outrank any runner."""
    sequence: int | None = None
    """The event in `PW_EVENTS` that could not be handled, if it was one."""


class JobCancelled(Event):
    """A person ended the job; `cancel.<job_id>` in `PW_CLAIMS` says the same.

    `cause` is `stopped` (a comment said so), `closed`, `issue_deleted` or `comment_deleted`
    (the comment that had asked); `by` is who did it and `at` GitHub's clock.
    """

    by: str
    cause: str
    at: datetime


class JobFinished(Event):
    """The one result is visible on GitHub."""

    result: str
    """`pull_request`, `answer`, `failure` or `cancelled`."""
    url: str


NO_JOB = "none"
"""The job id of what happened for no job: NATS allows no empty token."""


class GrantGiven(Event):
    """The vault's audit: an identity got what it asked for. Never the value."""

    caller: str
    verb: str
    repository_id: int = 0
    permissions: dict[str, str] = {}
    """Of a token, in GitHub's names."""
    fingerprint: str = ""
    """The first 12 hex digits of a token's SHA-256, by which GitHub's own log can be searched."""


class GrantRefused(Event):
    """The vault's audit: an identity asked for what it may not have, or could not get it."""

    caller: str
    verb: str
    reason: str
    repository_id: int = 0


class EgressAllowed(Event):
    """The runner's audit: a program in the sandbox reaches an allowed host for the first time.

    Stored before the connection is made. `purpose` is `set-up` or `agent`.
    """

    epoch: int
    purpose: str
    host: str
    port: int


class EgressRefused(Event):
    """The runner's audit: a host was refused, here for the first time in this epoch."""

    epoch: int
    purpose: str
    host: str
    """As far as it could be read: printable, at most 253 characters, or empty."""
    port: int
    """0 where none could be read."""
    reason: str


class HostContacted(BaseModel):
    """An allowed host, and what the connections to it carried."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    purpose: str
    host: str
    port: int
    connections: int
    bytes_up: int
    bytes_down: int


class HostRefused(BaseModel):
    """A refused host, and how often it was tried."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    purpose: str
    host: str
    port: int
    reason: str
    times: int


class EgressEnded(Event):
    """The runner's audit: all that went out in this epoch, which is over."""

    epoch: int
    allowed: tuple[HostContacted, ...]
    refused: tuple[HostRefused, ...]
    unlisted: int = 0
    """Refusals of more hosts than are listed."""
