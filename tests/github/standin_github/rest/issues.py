"""Issues: opened, read, listed, changed."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.responses import Response

from standin_github import events
from standin_github.access import METADATA, OPEN_ISSUE, READ_ISSUES, at_least, on_issue
from standin_github.auth import UserCaller
from standin_github.errors import ApiError, invalid
from standin_github.records import Issue, Label, Repository
from standin_github.refs import close, reopen
from standin_github.rest.call import Call, Json, answer, route
from standin_github.rest.fields import names, text, title
from standin_github.rest.labels import add_labels, known_labels, remove_label
from standin_github.views.issues import issue as issue_view

REASONS = ("completed", "not_planned", "duplicate", "reopened")


async def open_issue(call: Call) -> Response:
    repository = call.repository(OPEN_ISSUE)
    body = await call.json()
    heading, content = title(body, "Issue"), text(body, "Issue")
    labels = _wanted_labels(call, repository, body)
    issue = new_issue(call, repository, heading, content)
    issue.assignee_ids = _assignees(call, body) if may_triage(call, repository) else []
    issue.label_ids = [label.id for label in labels]
    events.issue_changed(call.hub, issue, call.actor(), "opened")
    issue.label_ids = []
    add_labels(call, issue, labels)
    return answer(issue_view(call.state, call.urls, issue), 201)


def new_issue(call: Call, repository: Repository, heading: str, content: str | None) -> Issue:
    """The next number of the repository, which issues and pull requests share."""
    repository.last_number += 1
    now = time.time()
    issue = Issue(
        id=call.state.new_id(),
        repository_id=repository.id,
        number=repository.last_number,
        author_id=call.actor().id,
        title=heading,
        body=content,
        created_at=now,
        updated_at=now,
        app_id=call.app_id(),
    )
    call.state.issues[issue.id] = issue
    return issue


def may_triage(call: Call, repository: Repository) -> bool:
    """Labels and assignees by someone who may not set them are dropped silently, as on GitHub."""
    if isinstance(call.caller, UserCaller):
        return at_least(call.state.role(call.caller.account, repository), "triage")
    return True


def _wanted_labels(call: Call, repository: Repository, body: Json) -> list[Label]:
    if not body.get("labels") or not may_triage(call, repository):
        return []
    return known_labels(call, repository, names(body["labels"], "Issue", "labels"))


def _assignees(call: Call, body: Json) -> list[int]:
    accounts = [call.state.account(n) for n in body.get("assignees") or []]
    if None in accounts:
        raise invalid("Issue", "assignees")
    return [account.id for account in accounts if account is not None]


async def get_issue(call: Call) -> Response:
    repository = call.repository(METADATA)
    issue = call.issue(repository)
    call.require(repository, on_issue(issue, "read", "read"))
    return answer(issue_view(call.state, call.urls, issue))


async def list_issues(call: Call) -> Response:
    """Newest first; pull requests are issues too."""
    repository = call.repository(READ_ISSUES)
    rows = [i for i in call.state.issues.values() if i.repository_id == repository.id]
    state = call.query("state", "open")
    rows = [i for i in rows if state in {"all", i.state}]
    for name in filter(None, call.query("labels").split(",")):
        label = call.state.label(repository, name)
        rows = [i for i in rows if label is not None and label.id in i.label_ids]
    creator = call.query("creator")
    if creator:
        rows = [i for i in rows if call.state.accounts[i.author_id].login == creator]
    rows.sort(key=_order(call), reverse=call.query("direction", "desc") == "desc")
    page, headers = call.page(rows)
    return answer([issue_view(call.state, call.urls, i) for i in page], headers=headers)


def _order(call: Call) -> Callable[[Issue], float]:
    if call.query("sort") == "updated":
        return lambda issue: issue.updated_at
    return lambda issue: issue.number


async def change_issue(call: Call) -> Response:
    repository = call.repository(METADATA)
    issue = call.issue(repository)
    own = call.actor().id == issue.author_id
    call.require(repository, on_issue(issue, "write", "read" if own else "triage"))
    apply_changes(call, issue, await call.json(), "Issue")
    return answer(issue_view(call.state, call.urls, issue))


def apply_changes(call: Call, issue: Issue, body: Json, resource: str) -> None:
    """Title, text, labels and state, for issues and pull requests alike; one event for each."""
    state = body.get("state", issue.state)
    if state not in {"open", "closed"}:
        raise invalid(resource, "state")
    reason = body.get("state_reason")
    if reason is not None and reason not in REASONS:
        raise invalid(resource, "state_reason")
    _edit(call, issue, body, resource)
    if "labels" in body:
        _replace_labels(call, issue, names(body["labels"] or [], resource, "labels"))
    if "assignees" in body:
        issue.assignee_ids = _assignees(call, body)
    if state == "closed" and issue.state == "open":
        close(call.hub, issue, call.actor(), None if issue.is_pull else reason or "completed")
    elif state == "open" and issue.state == "closed":
        _require_unmerged(call, issue)
        reopen(call.hub, issue, call.actor())


def _require_unmerged(call: Call, issue: Issue) -> None:
    if issue.is_pull and call.state.pull_of(issue).merged_at is not None:
        raise ApiError(
            422,
            "Validation Failed",
            [{"resource": "PullRequest", "code": "invalid", "field": "state"}],
        )


def _edit(call: Call, issue: Issue, body: Json, resource: str) -> None:
    heading = title(body, resource) if "title" in body else issue.title
    content = text(body, resource) if "body" in body else issue.body
    changes: Json = {}
    if heading != issue.title:
        changes["title"] = {"from": issue.title}
        call.state.note(issue, call.actor(), "renamed", heading)
    if content != issue.body:
        changes["body"] = {"from": issue.body}
    issue.title, issue.body = heading, content
    if changes:
        issue.updated_at = time.time()
        events.issue_changed(call.hub, issue, call.actor(), "edited", changes=changes)


def _replace_labels(call: Call, issue: Issue, wanted: list[str]) -> None:
    labels = known_labels(call, call.state.repositories[issue.repository_id], wanted)
    for label_id in list(issue.label_ids):
        if label_id not in {label.id for label in labels}:
            remove_label(call, issue, call.state.labels[label_id])
    add_labels(call, issue, labels)


ROUTES = [
    route("POST", "/repos/{owner}/{repo}/issues", open_issue),
    route("GET", "/repos/{owner}/{repo}/issues", list_issues),
    route("GET", "/repos/{owner}/{repo}/issues/{number}", get_issue),
    route("PATCH", "/repos/{owner}/{repo}/issues/{number}", change_issue),
]
