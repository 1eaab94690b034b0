"""Issues, comments, labels and reactions."""

from __future__ import annotations

from typing import Any

from standin_github.clock import iso, iso_or_none
from standin_github.records import Account, Comment, Issue, Label, Reaction, Repository
from standin_github.state import State
from standin_github.urls import Urls
from standin_github.views.accounts import app, node_id, user

Json = dict[str, Any]
REACTIONS = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")


def association(state: State, repository: Repository, account: Account) -> str:
    """`author_association`: people and Apps alike are judged by their role, as GitHub does."""
    if account.id == repository.owner_id:
        return "OWNER"
    return "COLLABORATOR" if str(account.id) in repository.collaborators else "NONE"


def label(state: State, urls: Urls, row: Label) -> Json:
    full_name = state.full_name(state.repositories[row.repository_id])
    return {
        "id": row.id,
        "node_id": node_id("Label", row.id),
        "url": urls.api(f"/repos/{full_name}/labels/{row.name}"),
        "name": row.name,
        "color": row.color,
        "default": False,
        "description": row.description or None,
        "archived_at": None,
        "archived_by": None,
    }


def reaction(state: State, urls: Urls, row: Reaction) -> Json:
    return {
        "id": row.id,
        "node_id": node_id("Reaction", row.id),
        "user": user(urls, state.accounts[row.account_id]),
        "content": row.content,
        "created_at": iso(row.created_at),
    }


def _rollup(state: State, address: str, subject: str, subject_id: int) -> Json:
    found = [r.content for r in state.reactions_on(subject, subject_id)]
    counts = {content: found.count(content) for content in REACTIONS}
    return {"url": f"{address}/reactions", "total_count": len(found), **counts}


def issue(state: State, urls: Urls, row: Issue) -> Json:
    repository = state.repositories[row.repository_id]
    full_name = state.full_name(repository)
    address = urls.api(f"/repos/{full_name}/issues/{row.number}")
    kind = "pull" if row.is_pull else "issues"
    assignees = [user(urls, state.accounts[i]) for i in row.assignee_ids]
    view: Json = {
        "url": address,
        "repository_url": urls.api(f"/repos/{full_name}"),
        "labels_url": f"{address}/labels{{/name}}",
        "comments_url": f"{address}/comments",
        "events_url": f"{address}/events",
        "timeline_url": f"{address}/timeline",
        "html_url": urls.html(f"/{full_name}/{kind}/{row.number}"),
        "id": row.id,
        "node_id": node_id("Issue", row.id),
        "number": row.number,
        "title": row.title,
        "user": user(urls, state.accounts[row.author_id]),
        "labels": [label(state, urls, state.labels[i]) for i in row.label_ids],
        "state": row.state,
        "locked": False,
        "assignee": assignees[0] if assignees else None,
        "assignees": assignees,
        "milestone": None,
        "comments": len(state.comments_of(row)),
        "author_association": association(state, repository, state.accounts[row.author_id]),
        "active_lock_reason": None,
        "body": row.body,
        "reactions": _rollup(state, address, "issue", row.id),
        "performed_via_github_app": _via(state, urls, row.app_id),
    }
    return view | _issue_times(state, urls, row) | (_pull_links(state, urls, row))


def _issue_times(state: State, urls: Urls, row: Issue) -> Json:
    closer = None if row.closed_by is None else user(urls, state.accounts[row.closed_by])
    return {
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
        "closed_at": iso_or_none(row.closed_at),
        "closed_by": closer,
        "state_reason": row.state_reason,
    }


def _pull_links(state: State, urls: Urls, row: Issue) -> Json:
    if not row.is_pull:
        return {}
    full_name = state.full_name(state.repositories[row.repository_id])
    page = urls.html(f"/{full_name}/pull/{row.number}")
    pull = state.pull_of(row)
    links = {
        "url": urls.api(f"/repos/{full_name}/pulls/{row.number}"),
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "merged_at": iso_or_none(pull.merged_at),
    }
    return {"draft": pull.draft, "pull_request": links}


def _via(state: State, urls: Urls, app_id: int | None) -> Json | None:
    return None if app_id is None else app(state, urls, state.apps[app_id])


def comment(state: State, urls: Urls, row: Comment) -> Json:
    parent = state.issues[row.issue_id]
    repository = state.repositories[parent.repository_id]
    full_name = state.full_name(repository)
    kind = "pull" if parent.is_pull else "issues"
    address = urls.api(f"/repos/{full_name}/issues/comments/{row.id}")
    return {
        "url": address,
        "html_url": urls.html(f"/{full_name}/{kind}/{parent.number}#issuecomment-{row.id}"),
        "issue_url": urls.api(f"/repos/{full_name}/issues/{parent.number}"),
        "id": row.id,
        "node_id": node_id("IssueComment", row.id),
        "user": user(urls, state.accounts[row.author_id]),
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
        "author_association": association(state, repository, state.accounts[row.author_id]),
        "body": row.body,
        "reactions": _rollup(state, address, "comment", row.id),
        "performed_via_github_app": _via(state, urls, row.app_id),
    }
