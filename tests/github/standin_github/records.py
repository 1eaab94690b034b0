"""What the stand-in remembers, one flat record per row.

Fields hold JSON types only, so that a snapshot is `asdict` and a restart is `cls(**row)`.
Times are seconds since the epoch; references to other rows are ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """`kind` is GitHub's `type`: User, Bot or Organization."""

    id: int
    login: str
    kind: str
    created_at: float


@dataclass(slots=True)
class PersonalToken:
    id: str
    account_id: int


@dataclass(slots=True)
class App:
    """GitHub keeps public keys only, and several of them so that one can be rotated."""

    id: int
    slug: str
    name: str
    client_id: str
    owner_id: int
    bot_id: int
    hook_id: int
    public_keys: list[str]
    webhook_url: str
    webhook_secret: str
    permissions: dict[str, str]
    events: list[str]
    created_at: float
    setup_url: str = ""
    """Where who installed it is sent afterwards."""
    public: bool = True
    """Whether others than its owner may install it."""


@dataclass(slots=True)
class Installation:
    id: int
    app_id: int
    account_id: int
    repository_ids: list[int]
    permissions: dict[str, str]
    created_at: float
    updated_at: float = 0.0
    """0 while nothing changed."""
    suspended_at: float | None = None
    suspended_by: int | None = None


@dataclass(slots=True)
class InstallationToken:
    """`repository_ids` is None for all repositories of the installation."""

    id: str
    installation_id: int
    permissions: dict[str, str]
    repository_ids: list[int] | None
    expires_at: float


@dataclass(slots=True)
class Repository:
    """`collaborators` maps account ids (as text, for JSON) to role names."""

    id: int
    owner_id: int
    name: str
    private: bool
    default_branch: str
    description: str
    created_at: float
    pushed_at: float
    collaborators: dict[str, str] = field(default_factory=dict)
    last_number: int = 0


@dataclass(slots=True)
class Label:
    id: int
    repository_id: int
    name: str
    color: str
    description: str


@dataclass(slots=True)
class Issue:
    """An issue, or the issue side of a pull request (`is_pull`)."""

    id: int
    repository_id: int
    number: int
    author_id: int
    title: str
    body: str | None
    created_at: float
    updated_at: float
    app_id: int | None = None
    state: str = "open"
    state_reason: str | None = None
    closed_at: float | None = None
    closed_by: int | None = None
    label_ids: list[int] = field(default_factory=list)
    assignee_ids: list[int] = field(default_factory=list)
    is_pull: bool = False


@dataclass(slots=True)
class Pull:
    """The pull request side; `id` is its own, `issue_id` the shared part's."""

    id: int
    issue_id: int
    head_ref: str
    head_sha: str
    base_ref: str
    base_sha: str
    draft: bool = False
    merged_at: float | None = None
    merged_by: int | None = None
    merge_sha: str | None = None
    reviewer_ids: list[int] = field(default_factory=list)
    commits: int = 0
    additions: int = 0
    deletions: int = 0
    changed_files: int = 0


@dataclass(slots=True)
class Comment:
    id: int
    issue_id: int
    author_id: int
    body: str
    created_at: float
    updated_at: float
    app_id: int | None = None


@dataclass(slots=True)
class Reaction:
    """`subject` is `issue` or `comment`, `subject_id` that row's id."""

    id: int
    subject: str
    subject_id: int
    account_id: int
    content: str
    created_at: float


@dataclass(slots=True)
class TimelineEvent:
    """A line between comments on the page: labeled, closed, pushed …"""

    id: int
    issue_id: int
    account_id: int
    kind: str
    detail: str
    created_at: float


@dataclass(slots=True)
class CheckRun:
    id: int
    repository_id: int
    app_id: int
    suite_id: int
    head_sha: str
    name: str
    status: str
    conclusion: str | None
    external_id: str
    details_url: str | None
    started_at: float | None
    completed_at: float | None
    output: dict[str, str | None]


@dataclass(slots=True)
class Delivery:
    """One try to hand over a webhook; `body` is what was signed and sent, `duration` in seconds."""

    id: int
    app_id: int
    guid: str
    event: str
    action: str | None
    installation_id: int | None
    repository_id: int | None
    redelivery: bool
    url: str
    body: str
    request_headers: dict[str, str]
    delivered_at: float
    done: bool = False
    duration: float = 0.0
    status: str = "pending"
    status_code: int = 0
    response_headers: dict[str, str] = field(default_factory=dict)
    response_body: str = ""


@dataclass(slots=True)
class Push:
    """One ref that one push moved; an absent side is forty zeros, as in git."""

    id: int
    repository_id: int
    account_id: int
    ref: str
    before: str
    after: str
    at: float
